"""A server of the S3 protocol on this machine, in a process of its own.

``python -m tests.support.s3`` runs it until it is ended, and prints its port.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: The secret of the tests. It must be in no message.
SECRET = "secret-of-the-bucket"
KEY_ID = "AKIAOFTHETESTS"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which obstore uses this server."""
        return {
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def reset(self) -> None:
        """Remove all buckets."""
        self._request("POST", "/moto-api/reset")

    def make_bucket(self, name: str) -> None:
        self._request("PUT", f"/{name}")

    def remove_bucket(self, name: str) -> None:
        self._request("DELETE", f"/{name}")

    def store(self, path: str, data: bytes) -> None:
        """Store an object. `path` begins with the bucket."""
        self._request("PUT", f"/{path}", data)

    def read(self, path: str) -> bytes | None:
        """Return an object; None if it is not there."""
        try:
            return self._request("GET", f"/{path}")
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:
                    raise
                return None

    def uploads(self, bucket: str) -> int:
        """Count the uploads in parts that have not ended."""
        return self._request("GET", f"/{bucket}?uploads").count(b"<Upload>")

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse each request, because nobody knows its key."""
        self._request("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._request("POST", "/moto-api/reset-auth", b"inf")

    def _request(self, method: str, path: str, data: bytes | None = None) -> bytes:
        headers = {"content-type": "application/octet-stream", "authorization": "of a test"}
        request = urllib.request.Request(self.endpoint + path, data, headers, method=method)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - likewise
            body: bytes = response.read()
            return body


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Run a server until the end of the `with` statement."""
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-m", __name__],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def _serve() -> None:
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - only in this process
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415 - likewise

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve()
