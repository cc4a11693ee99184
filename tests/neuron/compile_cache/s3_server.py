"""moto's S3 in a process of its own, with faults to order: `python -m tests.neuron.compile_cache.s3_server`.

GET /_faults?status=503&count=20 lets the next 20 requests fail; GET /_requests tells the requests since the last call.
"""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs

from helpers.files import REPOSITORY

CODES = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


class Faults:
    """WSGI middleware: answers with errors as ordered, counts requests, and passes the others on to moto."""

    def __init__(self, application):
        self.application, self.lock = application, threading.Lock()
        self.status, self.left, self.method, self.requests = "", 0, "", []
        self.alternating = self.spared = False

    def __call__(self, environment, start_response):
        asked, query = environment["PATH_INFO"], parse_qs(environment["QUERY_STRING"])
        with self.lock:
            if asked == "/_faults":
                self.status, self.left = query["status"][0], int(query["count"][0])
                self.method = query.get("method", [""])[0]
                self.alternating, self.spared = query["alternating"][0] == "True", False
                return self.say(start_response, "200 OK", b"{}")
            if asked == "/_requests":
                told, self.requests = json.dumps(self.requests).encode(), []
                return self.say(start_response, "200 OK", told)
            fails = self.left > 0 and self.method in ("", environment["REQUEST_METHOD"])
            if fails and self.spared:  # the next one again
                self.spared = fails = False
            elif fails:
                self.left, self.spared = self.left - 1, self.alternating
            kind = "LIST" if "list-type" in query else environment["REQUEST_METHOD"]
            self.requests.append([kind, asked, self.status if fails else ""])
        if fails:
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            code = CODES[self.status]
            return self.say(start_response, f"{self.status} {code}", error_body(code))
        if expected := environment.get("HTTP_X_AMZ_CHECKSUM_SHA256"):  # S3 refuses what differs, moto does not look
            body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            environment["wsgi.input"] = io.BytesIO(body)
            if base64.b64encode(hashlib.sha256(body).digest()).decode() != expected:
                return self.say(start_response, "400 Bad Request", error_body("BadDigest"))
        return self.application(environment, start_response)

    def say(self, start_response, status: str, body: bytes):
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]


def error_body(code: str) -> bytes:
    """As S3 tells an error."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as ordered</Message></Error>".encode()


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, Faults(DomainDispatcherApplication(create_backend_app)), threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


class Server:
    """The server as the tests use it: `url` of its endpoint, a bucket, and faults to order."""

    def __init__(self, folder: Path):
        self.log = (folder / "s3.log").open("w")
        command = [sys.executable, "-m", "tests.neuron.compile_cache.s3_server"]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | CREDENTIALS, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.environment = CREDENTIALS | {"AWS_ENDPOINT_URL_S3": self.url}

    def fail(self, status: int, count: int, method: str = "", alternating: bool = False) -> None:
        """Let the next `count` requests (of one method; every other one) fail with 500, 503 (slow down) or 403."""
        order = f"status={status}&count={count}&method={method}&alternating={alternating}"
        urllib.request.urlopen(f"{self.url}/_faults?{order}").read()

    def requests(self) -> list[list[str]]:
        """[method or LIST, path, status of an ordered fault] of each request since this was last asked."""
        return json.loads(urllib.request.urlopen(f"{self.url}/_requests").read())

    def client(self):
        """A boto3 client of it."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def bucket(self, name: str) -> str:
        """Make a bucket."""
        self.client().create_bucket(Bucket=name)
        return name

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


if __name__ == "__main__":
    main()
