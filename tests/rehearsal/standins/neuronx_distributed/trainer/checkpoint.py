"""The asynchronous save that is under way, if any."""

import threading
import time

from stood_in import absent

g_iostate = None
BEFORE_IT_WRITES = 1.0  # seconds: slow enough that reading without waiting fails every time


class IOState:
    """Runs `write` in a thread."""

    def __init__(self, write):
        self._thread = threading.Thread(target=lambda: (time.sleep(BEFORE_IT_WRITES), write()))
        self._thread.start()

    def wait_save(self, async_remove=False):
        self._thread.join()


__getattr__ = absent(__name__)
