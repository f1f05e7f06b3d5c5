"""Injected faults over real sockets, as a raw connection and as a client see them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from batches_core import (
    BatchesError,
    IncompleteResultsError,
    MalformedResultError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    ResultItem,
    ResultsUnavailableError,
    RetryPolicy,
    UnknownResult,
)
from batches_core.emulator import Emulator, FaultPlan, FaultRule
from tests.support.playbook import REQUEST
from transports.emulator import main, running_emulator
from transports.h11 import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

RETRIES = RetryPolicy(attempts=3, initial_delay=0, max_delay=0)
LIST = (
    b"GET /v1/messages/batches HTTP/1.1\r\nhost: a\r\nx-api-key: k\r\n"
    b"anthropic-version: 2023-06-01\r\n\r\n"
)
BODY = b'{"data":[],"has_more":false,"first_id":null,"last_id":null}'
HEAD_END = b"\r\n\r\n"


@contextlib.contextmanager
def faulty(*rules: FaultRule | str) -> Iterator[tuple[BatchesClient, Emulator]]:
    """Return a client of an emulator with these faults, and that emulator."""
    emulator = Emulator(speed=1e6, faults=FaultPlan(*rules))
    with (
        running_emulator(emulator) as base_url,
        BatchesClient(api_key="sk-faulty", base_url=base_url, retry=RETRIES) as client,
    ):
        yield client, emulator


def connect(base_url: str) -> socket.socket:
    parts = urlsplit(base_url)
    return socket.create_connection((parts.hostname, parts.port), timeout=5)


def read_all(connection: socket.socket) -> tuple[list[bytes], bool]:
    """Read to the end; return the received pieces and whether a reset ended them."""
    received = []
    try:
        while piece := connection.recv(65536):
            received.append(piece)
    except ConnectionResetError:
        return received, True
    return received, False


def listed(rule: str) -> tuple[bytes, bool]:
    """Return the bytes of the response to a list with this fault, and whether it was reset."""
    with (
        running_emulator(Emulator(faults=FaultPlan(rule))) as base_url,
        connect(base_url) as connection,
    ):
        connection.sendall(LIST)
        with contextlib.suppress(OSError):  # the connection may be reset already
            connection.shutdown(socket.SHUT_WR)
        received, is_reset = read_all(connection)
        return b"".join(received), is_reset


# --- as a raw connection sees them -----------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_drop_sends_no_byte_and_resets_or_closes_the_connection(when: str) -> None:
    assert listed(f"drop={when}") == (b"", True)
    assert listed(f"drop={when},delay=0.02") == (b"", True)
    assert listed(f"drop={when},end=close") == (b"", False)


def test_a_cut_body_ends_cleanly_or_with_a_close_or_a_reset() -> None:
    whole, _ = listed("create:drip")
    head = whole.partition(HEAD_END)[0] + HEAD_END
    assert whole.endswith(b"\r\n0\r\n\r\n")
    for end, is_reset, rest in (
        ("clean", False, b"0\r\n\r\n"),
        ("close", False, b""),
        ("reset", True, b""),
    ):
        response, was_reset = listed(f"cut=7,end={end}")
        assert was_reset is is_reset
        assert len(response.partition(HEAD_END)[0]) == len(head) - len(HEAD_END)
        assert response.partition(HEAD_END)[2] == b"7\r\n" + BODY[:7] + b"\r\n" + rest
        # A cut at 0 leaves nothing of the body; one behind the end leaves all of it.
        response, was_reset = listed(f"cut=0,end={end}")
        assert (response.partition(HEAD_END)[2], was_reset) == (rest, is_reset)
        response, was_reset = listed(f"cut=10000,end={end}")
        framed = b"%x\r\n%s\r\n" % (len(BODY), BODY)
        assert (response.partition(HEAD_END)[2], was_reset) == (framed + rest, is_reset)


def test_a_dripping_body_has_one_chunk_for_each_byte() -> None:
    response, is_reset = listed("drip")
    assert response.partition(HEAD_END)[2] == (
        b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    )
    assert not is_reset


def test_each_byte_of_a_dripping_body_is_a_send_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    class Watched(socket.socket):
        def send(self, data: Any, flags: int = 0, /) -> int:
            sent.append(bytes(data))
            return super().send(data, flags)

    monkeypatch.setattr("socket.socket", Watched)
    listed("drip")
    assert sum(data.startswith(b"1\r\n") for data in sent) == len(BODY)


def test_a_delay_does_not_delay_other_connections() -> None:
    with (
        running_emulator(Emulator(faults=FaultPlan("list:delay=60"))) as base_url,
        connect(base_url) as slow,
        connect(base_url) as quick,
    ):
        slow.sendall(LIST)
        time.sleep(0.01)  # the fault is for the slow one, so its request must be first
        quick.sendall(LIST)
        assert quick.recv(65536).startswith(b"HTTP/1.1 200")
        slow.settimeout(0)
        with pytest.raises(BlockingIOError):
            slow.recv(1)


def test_after_a_delay_the_response_is_sent_and_the_connection_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transports._emulator.server._CHECK_INTERVAL", 60)
    with (
        running_emulator(Emulator(faults=FaultPlan("list:delay=0.03"))) as base_url,
        connect(base_url) as connection,
    ):
        began = time.monotonic()
        connection.sendall(LIST)
        time.sleep(0.005)
        connection.sendall(LIST)  # read only after the delay
        assert connection.recv(1) == b"H"
        assert time.monotonic() - began >= 0.03
        connection.shutdown(socket.SHUT_WR)
        received, is_reset = read_all(connection)
        assert b"".join(received).count(b"TTP/1.1 200") == 2
        assert not is_reset


def test_a_delayed_response_costs_no_cpu_and_does_not_block_stop() -> None:
    with (
        running_emulator(Emulator(faults=FaultPlan("list:delay=60"))) as base_url,
        connect(base_url) as left,
        connect(base_url) as waiting,
    ):
        left.sendall(LIST)
        left.close()  # the server reads nothing during a delay, not even the end
        waiting.sendall(LIST + b"more")
        time.sleep(0.01)
        began = time.process_time()
        time.sleep(0.05)
        assert time.process_time() - began < 0.03
    # The fixture checks that both connections are closed.


def test_a_request_behind_a_response_that_was_cut_off_gets_no_response() -> None:
    for rule in ("list:cut=3", "list:drop=before,end=close"):
        with (
            running_emulator(Emulator(faults=FaultPlan(rule))) as base_url,
            connect(base_url) as connection,
        ):
            connection.sendall(LIST * 2)
            received, is_reset = read_all(connection)
            assert b"".join(received).count(b"HTTP/1.1") == (rule == "list:cut=3")
            assert not is_reset


def test_a_large_results_file_is_cut_after_that_many_bytes() -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("results:cut=100000,end=reset"))
    with (
        running_emulator(emulator) as base_url,
        BatchesClient(api_key="sk-faulty", base_url=base_url) as client,
        connect(base_url) as connection,
    ):
        batch = client.create(many(500))
        path = f"/v1/messages/batches/{batch.id}/results".encode()
        connection.sendall(LIST.replace(b"/v1/messages/batches", path))
        received, is_reset = read_all(connection)
        body = b"".join(received).partition(HEAD_END)[2]
        assert is_reset
        assert 100_000 < len(body) < 100_100  # the excess is chunked framing


# --- as a client sees them -------------------------------------------------------------


def many(count: int) -> list[dict[str, Any]]:
    return [{**REQUEST, "custom_id": f"r{number}"} for number in range(count)]


def ids(items: list[ResultItem[Any] | MalformedResultError]) -> list[str]:
    return sorted(item.custom_id for item in items if isinstance(item, ResultItem))


@pytest.mark.parametrize(
    "what", ["status=429,retry_after=0", "status=500", "status=503,proxy_page", "status=529"]
)
def test_a_create_refused_by_a_status_creates_at_most_one_batch(what: str) -> None:
    with faulty(f"create:{what}") as (client, emulator):
        with contextlib.suppress(OutcomeUnknownError):
            client.create([REQUEST])
        assert emulator.faults.applied == [f"create:{what}"]
        assert len(client.list().data) <= 1


@pytest.mark.parametrize(
    ("what", "created"),
    [
        ("drop=before", 0),
        ("drop=before,end=close", 0),
        ("drop=after", 1),
        ("drop=after,end=close", 1),
        ("cut=5", 1),
        ("cut=5,end=reset", 1),
        ("status=504,taken", 1),
        ("proxy_page,taken", 1),
    ],
)
def test_a_create_whose_response_is_lost_has_an_unknown_outcome(what: str, created: int) -> None:
    with faulty(f"create:{what}") as (client, _):
        with pytest.raises(OutcomeUnknownError):
            client.create([REQUEST])
        assert len(client.list().data) == created


@pytest.mark.parametrize(
    "what",
    ["status=529", "proxy_page", "drop=before", "drop=after", "cut=9", "cut=9,end=reset"],
)
def test_a_read_is_retried_after_every_temporary_fault(what: str) -> None:
    with faulty(f"get:{what},times=2") as (client, emulator):
        batch = client.create([REQUEST])
        emulator.faults.add(f"list:{what}")
        assert client.get(batch.id).id == batch.id
        assert client.list().data == [client.get(batch.id)]
        assert not emulator.faults.unmet
    with faulty(f"get:{what},times=always") as (client, emulator):
        batch = client.create([REQUEST])
        with pytest.raises(BatchesError):
            client.get(batch.id)
        # A retry on a new connection, after a kept one died, is not counted as an attempt.
        assert set(emulator.faults.applied) == {f"get:{what}"}
        assert len(emulator.faults.applied) >= RETRIES.attempts


def test_a_wait_continues_after_every_temporary_fault() -> None:
    with faulty(
        "get:status=529", "get:drop=before", "get:cut=3", "get:drip", "create:missing_for=0.03"
    ) as (client, emulator):
        batch = client.create([REQUEST])
        assert client.wait_for(batch.id, poll_interval=0.005, timeout=5).ended
        assert not emulator.faults.unmet


@pytest.mark.parametrize("what", ["cut=0", "cut=20000", "cut=20000,end=reset", "drop=before"])
def test_interrupted_results_are_read_again(what: str) -> None:
    with faulty(f"results:{what},times=2") as (client, emulator):
        batch = client.wait_for(client.create(many(60)).id, poll_interval=0.01)
        items = client.results(batch)
        assert ids(items) == sorted(request["custom_id"] for request in many(60))
        assert not emulator.faults.unmet


def test_dripping_results_are_complete() -> None:
    with faulty("results:drip") as (client, _):
        batch = client.wait_for(client.create(many(3)).id, poll_interval=0.01)
        assert ids(client.results(batch)) == ["r0", "r1", "r2"]


def test_results_that_end_cleanly_but_too_early_are_incomplete() -> None:
    with faulty("results:cut=0,end=clean,times=always") as (client, _):
        batch = client.wait_for(client.create(many(60)).id, poll_interval=0.01)
        with pytest.raises(IncompleteResultsError):
            client.results(batch)


def test_corrupted_repeated_and_unknown_lines_lose_no_other_result() -> None:
    rule = "results:bad_lines=4,duplicate_lines=5,unknown_variants=2,unknown_fields"
    with faulty(rule, "get:unknown_fields", "list:unknown_fields") as (client, emulator):
        batch = client.wait_for(client.create(many(60)).id, poll_interval=0.01)
        items = client.results(batch)
        assert sum(isinstance(item, MalformedResultError) for item in items) == 4
        read = [item for item in items if isinstance(item, ResultItem)]
        assert len({item.custom_id for item in read}) == 56
        assert sum(isinstance(item.result, UnknownResult) for item in read) == 2
        assert client.list().data == [batch]
        assert not emulator.faults.unmet


def test_archived_expired_and_missing_batches_raise_their_errors() -> None:
    with faulty("archived", "expired=0.5", FaultRule(missing_for=60, unlisted_for=60)) as (
        client,
        emulator,
    ):
        archived, expired, missing = (client.create(many(8)) for _ in range(3))
        with pytest.raises(ResultsUnavailableError):
            client.results(client.get(archived.id))
        assert client.get(expired.id).request_counts.expired == 4
        with pytest.raises(NotFoundError):
            client.get(missing.id)
        assert [batch.id for batch in client.list().data] == [expired.id, archived.id]
        assert not emulator.faults.unmet


def test_faults_can_be_added_while_the_server_runs() -> None:
    with faulty() as (client, emulator):
        batch = client.create([REQUEST])
        emulator.faults.add("get:status=529,should_retry=false")
        with pytest.raises(OverloadedError):
            client.get(batch.id)
        assert client.get(batch.id).id == batch.id


def test_a_seed_injects_the_same_faults_into_a_whole_run_every_time() -> None:
    def applied() -> list[str]:
        emulator = Emulator(speed=1e6, faults=FaultPlan(seed=4, rate=0.5))
        patient = RetryPolicy(attempts=20, initial_delay=0, max_delay=0)
        with (
            running_emulator(emulator) as base_url,
            BatchesClient(api_key="sk-faulty", base_url=base_url, retry=patient) as client,
        ):
            for _ in range(5):
                with contextlib.suppress(OutcomeUnknownError):
                    client.create([REQUEST])
            for batch in client.list_all(limit=2):
                ended = client.wait_for(batch.id, poll_interval=0.01)
                assert ids(client.results(ended)) == ["a"]
        return emulator.faults.applied

    first = applied()
    assert len(set(first)) > 4
    assert applied() == first


# --- the command -----------------------------------------------------------------------


def test_the_command_injects_the_faults_of_its_options() -> None:
    arguments = ["--fault", "list:status=529,times=1", "--fault", "list:cut=3,end=close"]
    command = [sys.executable, "-m", "transports.emulator", *arguments]
    with subprocess.Popen(  # noqa: S603 - this interpreter, our own words
        [*command, "--fault-seed", "1", "--fault-rate", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            base_url = process.stdout.readline().strip()
            responses = []
            for _ in range(3):
                with connect(base_url) as connection:
                    connection.sendall(LIST)
                    with contextlib.suppress(OSError):  # the connection may be closed already
                        connection.shutdown(socket.SHUT_WR)
                    responses.append(b"".join(read_all(connection)[0]))
            process.send_signal(2)
            assert process.wait(10) == 0
        finally:
            process.kill()  # otherwise a failed test would hang
    assert responses[0].startswith(b"HTTP/1.1 529")
    assert responses[1].endswith(HEAD_END + b"3\r\n" + BODY[:3] + b"\r\n")
    assert responses[2].endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "create:statsu=503"], "unknown field 'statsu'"),
        (["--fault", "creates:status=503"], "route must be one of create, get,"),
        (["--fault", "create"], "for example, create:status=503"),
        (["--fault-rate", "0.5"], "--fault-rate needs --fault-seed"),
        (
            ["--fault-seed", "1", "--fault-rate", "2"],
            "--fault-rate must be a share from 0 to 1, not 2.0",
        ),
        (["--fault-seed", "one"], "invalid int"),
    ],
)
def test_an_invalid_fault_option_is_a_usage_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert message in capsys.readouterr().err
