from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from batches_core import Request
from batches_core.emulator import Emulator, FaultPlan, FaultRule, Response
from tests.support.playbook import REQUEST
from transports import emulator as door
from transports.emulator import EmulatorServer, running_emulator
from transports.httpx import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def exchange(base_url: str, data: bytes) -> bytes:
    """Send these bytes and return everything received until the server closes."""
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
def test_bytes_that_are_not_http_are_refused_and_the_next_client_is_served(data: bytes) -> None:
    with running_emulator() as base_url:
        status = exchange(base_url, data).split(b" ", 2)[1]
        assert status.startswith(b"4")
        with BatchesClient(api_key="k", base_url=base_url) as client:
            assert client.list().data == []


def test_half_a_request_is_a_400_and_an_empty_one_gets_no_response() -> None:
    half = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"
    with running_emulator() as base_url:
        assert exchange(base_url, half).startswith(b"HTTP/1.1 400")
        assert exchange(base_url, b"") == b""


def test_a_head_request_gets_a_head_without_a_body() -> None:
    with running_emulator() as base_url:
        response = exchange(base_url, b"HEAD /v1/messages/batches HTTP/1.1\r\nhost: a\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 401")
        assert response.endswith(b"\r\n\r\n")
        with BatchesClient(api_key="k", base_url=base_url) as client:
            assert client.list().data == []


def test_an_error_on_one_connection_does_not_end_the_server(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Broken(Emulator):
        def handle(self, request: Request, now: float) -> Response:
            if request.target == "/broken":
                return Response(status=200, headers=(("bad header", "x"),), chunks=())
            return super().handle(request, now)

    with running_emulator(Broken()) as base_url:
        assert exchange(base_url, b"GET /broken HTTP/1.1\r\nhost: a\r\n\r\n") == b""
        with BatchesClient(api_key="k", base_url=base_url) as client:
            assert client.list().data == []
    assert "Illegal header name" in capfd.readouterr().err


def test_a_refused_client_that_goes_on_sending_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transports._emulator.connection._LINGER", 0.1)
    monkeypatch.setattr("transports._emulator.server._CHECK_INTERVAL", 0.05)
    with running_emulator() as base_url:
        parts = urlsplit(base_url)
        with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            while connection.recv(65536):
                pass
            # The server has closed its side. The client goes on sending and is cut off later.
            cut_off = False
            for _ in range(1000):
                time.sleep(0.005)
                try:
                    connection.sendall(b"more")
                except OSError:
                    cut_off = True
                    break
            assert cut_off


def test_without_file_descriptors_the_server_pauses_and_then_goes_on() -> None:
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


def test_a_crowd_of_new_clients_does_not_wait_for_busy_ones() -> None:
    seen: set[str] = set()
    handled_before_all: list[int] = []

    class Counting(Emulator):
        handled = 0

        def handle(self, request: Request, now: float) -> Response:
            self.handled += 1
            seen.add(request.target)
            if len(seen) == len(clients) and not handled_before_all:
                handled_before_all.append(self.handled)
                all_served.set()
            return super().handle(request, now)

    all_served = threading.Event()
    clients: list[socket.socket] = []
    server = EmulatorServer(Counting())
    parts = urlsplit(server.base_url)
    with contextlib.ExitStack() as stack:
        for number in range(150):
            address = str(parts.hostname), parts.port
            client = stack.enter_context(socket.create_connection(address, timeout=5))
            # Each client is busy: it sends its next requests before the first response.
            client.sendall(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number * 100)
            clients.append(client)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            assert all_served.wait(60)
        finally:
            server.stop()
            thread.join()
    # With one accept in each round it would be over 10,000: a round serves every accepted client.
    assert handled_before_all[0] < 10 * len(clients)


# --- behind a proxy --------------------------------------------------------------------


def ask(base_url: str, target: str, headers: dict[str, str] | None = None) -> tuple[str, Any]:
    """Send one GET with this target; return its status and reason, and the JSON of its body."""
    parts = urlsplit(base_url)
    with contextlib.closing(
        http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=5)
    ) as connection:
        connection.putrequest("GET", target, skip_host=True)
        always = {"x-api-key": "sk-secret", "anthropic-version": "2023-06-01"}
        for name, value in {"Host": "a.test:81", **always, **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as response:
            return f"{response.status} {response.reason}", msgspec.json.decode(response.read())


@pytest.mark.parametrize(
    ("public_url", "target", "headers", "origin"),
    [
        (None, "", {}, "http://a.test:81"),
        (None, "", {"X-Forwarded-Proto": "https"}, "https://a.test:81"),
        (None, "", {"X-Forwarded-Proto": "HTTPS, http"}, "https://a.test:81"),
        (None, "", {"X-Forwarded-Host": "b.test"}, "http://b.test"),
        (None, "", {"X-Forwarded-Host": "b.test:8443, c.test"}, "http://b.test:8443"),
        (None, "", {"X-Forwarded-Host": "[::1]:8443"}, "http://[::1]:8443"),
        (None, "", {"X-Forwarded-Proto": "ftp", "X-Forwarded-Host": "b/c?"}, "http://a.test:81"),
        (None, "http://c.test", {}, "http://c.test"),
        (None, "HTTPS://c.test:8443", {}, "https://c.test:8443"),
        (None, "http://c.test", {"X-Forwarded-Proto": "https"}, "https://c.test"),
        ("https://p.test", "", {}, "https://p.test"),
        (
            "https://p.test:8443/",
            "http://c.test",
            {"X-Forwarded-Host": "b.test"},
            "https://p.test:8443",
        ),
    ],
)
def test_results_url_starts_with_the_origin_that_the_client_uses(
    public_url: str | None, target: str, headers: dict[str, str], origin: str
) -> None:
    with (
        running_emulator(Emulator(speed=1e6), public_url=public_url) as base_url,
        BatchesClient(api_key="k", base_url=base_url) as client,
    ):
        path = "/v1/messages/batches/" + client.create([REQUEST]).id
        status, batch = ask(base_url, target + path, headers)
    assert status == "200 OK"
    assert batch["results_url"] == origin + path + "/results"


@pytest.mark.parametrize(
    "target", ["http://c.test/v1/x?y=1", "http://c.test", "http://u:p@c.test/"]
)
def test_a_request_with_an_absolute_target_is_served(target: str) -> None:
    urls = []

    class Recording(Emulator):
        def handle(self, request: Request, now: float) -> Response:
            urls.append(request.url)
            return super().handle(request, now)

    with running_emulator(Recording()) as base_url:
        assert ask(base_url, target)[0] == "404 Not Found"
    path = target.partition("c.test")[2] or "/"
    assert urls == ["http://c.test" + path]


@pytest.mark.parametrize(
    "public_url",
    [
        "p.test",
        "ftp://p.test",
        "https://p.test/emulator",
        "https://",
        "https://u:p@p.test",
        "https://[",
        "",
    ],
)
def test_public_url_must_be_an_origin(public_url: str) -> None:
    with pytest.raises(ValueError, match=r"public_url must be an origin such as https://host:8443"):
        EmulatorServer(Emulator(), public_url=public_url)


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (404, "Not Found"),
        (429, "Too Many Requests"),
        (502, "Bad Gateway"),
        (529, "Overloaded"),
        (599, ""),
    ],
)
def test_a_status_line_has_the_reason_phrase_of_its_status(status: int, phrase: str) -> None:
    faults = FaultPlan(FaultRule(route="list", status=status))
    with running_emulator(Emulator(faults=faults)) as base_url:
        assert ask(base_url, "/v1/messages/batches")[0] == f"{status} {phrase}"


# --- the log ---------------------------------------------------------------------------


def logged(
    data: bytes, *rules: str, emulator: Emulator | None = None, read: bool = True
) -> list[str]:
    lines: list[str] = []
    emulator = emulator or Emulator()
    emulator.faults.add(*rules)
    with running_emulator(emulator, log=lines.append) as base_url:
        if read:
            with contextlib.suppress(OSError):  # a fault may reset the connection
                exchange(base_url, data)
        else:
            parts = urlsplit(base_url)
            with socket.create_connection((parts.hostname, parts.port), timeout=5) as client:
                client.sendall(data)
                for _ in range(2000):
                    if emulator.faults.applied:
                        break
                    time.sleep(0.005)
    return [re.sub(r"[0-9.]+ s\b", "T s", line) for line in lines]


def get(target: str, headers: str = "") -> bytes:
    head = f"GET {target} HTTP/1.1\r\nhost: a\r\nx-api-key: sk-a-secret\r\n{headers}\r\n"
    return head.encode("latin-1")


BATCHES = "/v1/messages/batches"


def test_one_line_is_logged_after_each_request() -> None:
    data = get(BATCHES, "anthropic-version: 2023-06-01\r\n") + get("/v1/x")
    found = logged(data)
    assert found[0] == "GET /v1/messages/batches 200, 59 bytes, T s"
    assert re.fullmatch(r"GET /v1/x 400, [0-9]+ bytes, T s", found[1])
    assert len(found) == 2


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("?limit=2&after_id=msgbatch_a&beta=true", "?limit=2&after_id=msgbatch_a&beta=true"),
        (
            "?before_id=b&api_key=sk-x&X-Signature=s=t",
            "?before_id=b&[hidden]&[hidden]",
        ),
        ("?sk-x", "?[hidden]"),
        ("?", "?"),
        ("?LIMIT=sk-x", "?[hidden]"),
        ("/sk-a-secret?limit=sk-a-secret", "/[hidden]?limit=[hidden]"),
    ],
)
def test_the_log_shows_no_credential_and_no_secret_in_a_query(target: str, shown: str) -> None:
    (line,) = logged(get(BATCHES + target))
    assert line.startswith(f"GET {BATCHES}{shown} 4")
    (line,) = logged(get("http://user:sk-x@host" + BATCHES + target))
    assert line.startswith(f"GET {BATCHES}{shown} 4")


def test_the_log_says_how_a_response_ended() -> None:
    ended = get(BATCHES, "anthropic-version: 2023-06-01\r\n")
    assert logged(ended, "list:drop=before") == ["GET /v1/messages/batches no response, T s"]
    assert logged(ended, "list:drop=after,end=close") == [
        "GET /v1/messages/batches no response, T s"
    ]
    assert logged(ended, "list:cut=5") == ["GET /v1/messages/batches 200, 5 bytes, T s, cut off"]
    assert logged(ended, "list:cut=5,end=reset") == [
        "GET /v1/messages/batches 200, 5 bytes, T s, cut off"
    ]
    (line,) = logged(ended, "list:cut=5,end=clean")
    assert line == "GET /v1/messages/batches 200, 5 bytes, T s"
    assert logged(b"nonsense\r\n\r\n") == ["no request 400, 0 bytes, T s"]
    half = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"
    assert logged(half) == ["POST /x 400, 0 bytes, T s"]
    assert logged(b"") == []


def test_the_log_has_a_line_for_a_client_that_left() -> None:
    (line,) = logged(get(BATCHES), "list:delay=60", read=False)
    assert line == "GET /v1/messages/batches no response, T s"


@pytest.mark.parametrize("arguments", [["--verbose"], []])
def test_the_command_logs_to_stderr_only_with_verbose(arguments: list[str]) -> None:
    with (
        running_command(*arguments) as (base_url, output),
        BatchesClient(api_key="sk-of-a-test", base_url=base_url) as client,
    ):
        assert client.list(limit=3).data == []
    out, err = output
    assert out == ""
    assert ("GET /v1/messages/batches?limit=3 200, 59 bytes" in err) == bool(arguments)
    assert "sk-of-a-test" not in err
    assert "Traceback" not in err


# --- other behaviour of the server -----------------------------------------------------


def test_pipelined_requests_get_their_responses_in_order() -> None:
    one = b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n"
    with running_emulator() as base_url:
        assert exchange(base_url, one * 3).count(b"HTTP/1.1 401") == 3


def test_a_client_that_expects_a_100_gets_one() -> None:
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


def test_a_responder_that_raises_makes_a_500_and_the_server_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def responder(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
        del params
        raise RuntimeError("no response for " + custom_id)

    with (
        running_emulator(Emulator(responder=responder, speed=1e6)) as base_url,
        BatchesClient(api_key="k", base_url=base_url) as client,
    ):
        batch = client.create([REQUEST])
        with pytest.raises(Exception, match="500 api_error"):
            client.wait_for(batch.id, max_outage=0, poll_interval=0.01)
        assert client.list(limit=1, after_id=batch.id).data == []
    assert "no response for a" in capfd.readouterr().err


def test_transports_emulator_exports_the_server_its_context_manager_and_the_command() -> None:
    assert door.__all__ == ["EmulatorServer", "main", "running_emulator"]


def test_the_server_listens_on_ipv6() -> None:
    with (
        running_emulator(host="::1") as base_url,
        BatchesClient(api_key="k", base_url=base_url) as client,
    ):
        assert base_url.startswith("http://[::1]:")
        assert client.list().data == []


@contextlib.contextmanager
def running_command(*arguments: str) -> Iterator[tuple[str, list[str]]]:
    """Run the command and interrupt it at the end.

    The value is its base URL, and a list that receives the rest of its stdout and its stderr at
    the end.
    """
    command = [sys.executable, "-m", "transports.emulator", *arguments]
    output: list[str] = []
    with subprocess.Popen(  # noqa: S603 - this interpreter, our own words
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), output
            process.send_signal(2)
            output.extend(process.communicate(timeout=10))
            assert process.returncode == 0
        finally:
            process.kill()  # otherwise a failed test would wait for it


def test_the_command_prints_its_base_url_first_and_ends_when_interrupted() -> None:
    with (
        running_command("--port", "0", "--speed", "100") as (base_url, _),
        BatchesClient(api_key="k", base_url=base_url) as client,
    ):
        batch = client.create([REQUEST])
        assert client.wait_for(batch.id, poll_interval=0.02).ended


def test_the_command_has_options_for_errored_requests_and_a_public_url() -> None:
    arguments = ["--speed", "1e6", "--errored", "1", "--public-url", "https://p.test"]
    with (
        running_command(*arguments) as (base_url, _),
        BatchesClient(api_key="k", base_url=base_url) as client,
    ):
        assert base_url.startswith("http://127.0.0.1:")
        batch = client.get(client.create([REQUEST]).id)
        assert batch.request_counts.errored == 1
        assert str(batch.results_url).startswith("https://p.test/v1/messages/batches/")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--speed", "0"], 2, "--speed must be more than 0, not 0.0"),
        (["--speed", "nan"], 2, "--speed must be more than 0, not nan"),
        (["--port", "many"], 2, "invalid int"),
        (["--port", "99999"], 1, "cannot listen on 127.0.0.1:99999"),
        (["--host", "203.0.113.1"], 1, "cannot listen on 203.0.113.1:0"),
        (["--errored", "2"], 2, "--errored must be a share from 0 to 1, not 2.0"),
        (["--public-url", "p.test"], 2, "public_url must be an origin such as https://host:8443"),
    ],
)
def test_an_invalid_option_or_address_ends_the_command_with_a_message(
    arguments: list[str], status: int, message: str
) -> None:
    done = subprocess.run(  # noqa: S603 - this interpreter, our own words
        [sys.executable, "-m", "transports.emulator", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
