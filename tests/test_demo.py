"""The recorded hour: no cell keeps an audience waiting, and neither a model nor the network is needed."""

import json
import re
import time

from tests.notebook_kernel import Cells

LONGEST = 20  # seconds
NOWHERE = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}


def test_every_cell_is_quick_says_where_it_is_from_and_leaves_nothing_behind(tmp_path):
    runs, cache = tmp_path / "runs", tmp_path / "cache"
    said, shown, seconds = {}, {}, {}
    with Cells("demo", runs, WORKSHOP_CACHE=str(cache), **NOWHERE) as cells:
        for name, source in cells.sources.items():
            began = time.monotonic()
            said[name], _ = cells.execute(source)
            shown[name] = cells.shown
            seconds[name] = time.monotonic() - began
    assert max(seconds.values()) < LONGEST, seconds
    for name in ("demo-answers", "demo-table", "demo-difference"):
        assert re.search(r"recorded on .+, \d{4}-\d\d-\d\d", json.dumps(shown[name])), name
    assert "profile laptop, seed 0" in said["demo-recorded"] and "cores" in said["demo-recorded"]
    assert "ORPO − SFT, accepted answers, points: +" in said["demo-check"]
    assert not runs.exists() and not cache.exists()
