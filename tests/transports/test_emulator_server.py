from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from batches_core import Request
from batches_core.emulator import Emulator, Response
from tests.playbook import REQUEST
from transports.emulator import running_emulator
from transports.httpx import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def exchange(base_url: str, data: bytes) -> bytes:
    """Send these bytes and give all that comes back until the server closes."""
    parts = urlsplit(base_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nhost: [\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_served(data: bytes) -> None:
    with running_emulator() as base_url:
        status = exchange(base_url, data).split(b" ", 2)[1]
        assert status.startswith(b"4")
        with BatchesClient(api_key="k", base_url=base_url) as client:
            assert client.list().data == []


def test_half_a_request_is_refused_and_none_at_all_gets_no_answer() -> None:
    half = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"
    with running_emulator() as base_url:
        assert exchange(base_url, half).startswith(b"HTTP/1.1 400")
        assert exchange(base_url, b"") == b""


def test_a_head_request_gets_a_head_and_the_server_goes_on() -> None:
    with running_emulator() as base_url:
        answer = exchange(base_url, b"HEAD /v1/messages/batches HTTP/1.1\r\nhost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401")
        assert answer.endswith(b"\r\n\r\n")
        with BatchesClient(api_key="k", base_url=base_url) as client:
            assert client.list().data == []


def test_a_fault_of_one_connection_does_not_end_the_others(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Faulty(Emulator):
        def handle(self, request: Request, now: float) -> Response:
            if request.target == "/fault":
                return Response(status=200, headers=(("bad header", "x"),), chunks=())
            return super().handle(request, now)

    with running_emulator(Faulty()) as base_url:
        assert exchange(base_url, b"GET /fault HTTP/1.1\r\nhost: a\r\n\r\n") == b""
        with BatchesClient(api_key="k", base_url=base_url) as client:
            assert client.list().data == []
    assert "Illegal header name" in capfd.readouterr().err


def test_a_refused_client_may_not_linger_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transports.emulator._LINGER", 0.1)
    monkeypatch.setattr("transports.emulator._HOUSEKEEPING", 0.05)
    with running_emulator() as base_url:
        parts = urlsplit(base_url)
        with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            while connection.recv(65536):
                pass
            # Closed on its side; it goes on, and is cut off after a while.
            cut_off = False
            for _ in range(1000):
                time.sleep(0.005)
                try:
                    connection.sendall(b"more")
                except OSError:
                    cut_off = True
                    break
            assert cut_off


def test_without_descriptors_the_server_waits_and_then_goes_on() -> None:
    program = """
import resource, socket, threading, time
from urllib.parse import urlsplit
from batches_core.emulator import Emulator
from transports.emulator import EmulatorServer
server = EmulatorServer(Emulator())
address = urlsplit(server.base_url).hostname, urlsplit(server.base_url).port
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
clients = []
try:
    while True:
        clients.append(socket.create_connection(address))
except OSError:
    pass
thread = threading.Thread(target=server.serve)
thread.start()
began = time.process_time()
time.sleep(0.5)
spent = time.process_time() - began
for client in clients:
    client.close()
with socket.create_connection(address, timeout=5) as client:
    client.sendall(b"GET / HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")
    assert client.recv(12) == b"HTTP/1.1 401"
server.stop()
thread.join()
print("spun" if spent > 0.25 else "rested")
"""
    done = subprocess.run(  # noqa: S603 - this interpreter, our own words
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.stdout, done.stderr) == ("rested\n", "")


def test_pipelined_requests_are_answered_in_turn() -> None:
    one = b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n"
    with running_emulator() as base_url:
        assert exchange(base_url, one * 3).count(b"HTTP/1.1 401") == 3


def test_a_client_that_waits_for_a_100_gets_one() -> None:
    with running_emulator() as base_url:
        parts = urlsplit(base_url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=5)
        connection.putrequest("POST", "/v1/messages/batches")
        connection.putheader("content-length", "2")
        connection.putheader("expect", "100-continue")
        connection.endheaders()
        assert connection.sock.recv(4096).startswith(b"HTTP/1.1 100")
        connection.send(b"{}")
        with connection.getresponse() as response:
            assert response.status == 401
        connection.close()


def test_a_responder_that_fails_is_a_500_and_the_server_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def responder(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
        del params
        raise RuntimeError("no answer for " + custom_id)

    with (
        running_emulator(Emulator(responder=responder, speed=1e6)) as base_url,
        BatchesClient(api_key="k", base_url=base_url) as client,
    ):
        batch = client.create([REQUEST])
        with pytest.raises(Exception, match="500 api_error"):
            client.wait_for(batch.id, max_outage=0, poll_interval=0.01)
        assert client.list(limit=1, after_id=batch.id).data == []
    assert "no answer for a" in capfd.readouterr().err


def test_ipv6() -> None:
    with (
        running_emulator(host="::1") as base_url,
        BatchesClient(api_key="k", base_url=base_url) as client,
    ):
        assert base_url.startswith("http://[::1]:")
        assert client.list().data == []


def test_the_command_prints_its_base_url_first_and_ends_when_interrupted() -> None:
    command = [sys.executable, "-m", "transports.emulator", "--port", "0", "--speed", "100"]
    with subprocess.Popen(  # noqa: S603 - this interpreter, our own words
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        with BatchesClient(api_key="k", base_url=base_url) as client:
            batch = client.create([REQUEST])
            assert client.wait_for(batch.id, poll_interval=0.02).ended
        process.send_signal(2)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--speed", "0"], 2, "more than 0"),
        (["--speed", "nan"], 2, "more than 0"),
        (["--port", "many"], 2, "invalid int"),
        (["--port", "99999"], 1, "cannot listen on 127.0.0.1:99999"),
        (["--host", "203.0.113.1"], 1, "cannot listen on 203.0.113.1:0"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], status: int, told: str) -> None:
    done = subprocess.run(  # noqa: S603 - this interpreter, our own words
        [sys.executable, "-m", "transports.emulator", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
