"""moto's AWS on loopback, which fails when it is told to: what boto3 and we make of a bad day."""

import json
import threading
from collections import Counter
from xml.sax.saxutils import escape

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class FailingAws:
    """WSGI: the next `count` requests of an action are answered with an error, the others by moto.

    An action is what X-Amz-Target ends with (such as DescribeTrainingJob), or "PUT" and "GET" for S3's objects.
    """

    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.orders: dict[str, list] = {}
        self.asked: Counter[str] = Counter()
        self.server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fail(self, action: str, count: int, status: int, code: str, after: int = 0) -> None:
        """Let `after` requests of an action through, then answer `count` with this status and error code."""
        self.orders[action] = [None] * after + [(status, code)] * count

    def __call__(self, environment, start_response):
        target = environment.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        action = target or environment["REQUEST_METHOD"]
        self.asked[action] += 1
        order = self.orders[action].pop(0) if self.orders.get(action) else None
        if order is None:
            return self.moto(environment, start_response)
        environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        status, code = order
        body = json.dumps({"__type": code, "message": "as ordered"})
        if not target:
            body = f"<?xml version='1.0'?><Error><Code>{escape(code)}</Code><Message>as ordered</Message></Error>"
        start_response(f"{status} {code}", [("Content-Length", str(len(body)))])
        return [body.encode()]

    def stop(self) -> None:
        self.server.shutdown()
