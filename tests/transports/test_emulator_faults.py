"""The faults over real sockets: what a raw client gets, and what a client makes of it."""

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
    """A client of an emulator with these faults."""
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
    """Everything that comes, as it comes, and whether a reset ended it."""
    received = []
    try:
        while piece := connection.recv(65536):
            received.append(piece)
    except ConnectionResetError:
        return received, True
    return received, False


def listed(rule: str) -> tuple[bytes, bool]:
    """The answer to a list that meets this fault, and whether a reset ended it."""
    with (
        running_emulator(Emulator(faults=FaultPlan(rule))) as base_url,
        connect(base_url) as connection,
    ):
        connection.sendall(LIST)
        with contextlib.suppress(OSError):  # it may be reset already
            connection.shutdown(socket.SHUT_WR)
        received, is_reset = read_all(connection)
        return b"".join(received), is_reset


# --- on the wire -------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_drop_is_a_reset_without_a_byte(when: str) -> None:
    assert listed(f"drop={when}") == (b"", True)
    assert listed(f"drop={when},delay=0.02") == (b"", True)
    assert listed(f"drop={when},end=close") == (b"", False)


def test_a_cut_body_ends_as_the_rule_says() -> None:
    whole, _ = listed("create:drip")
    head = whole.partition(HEAD_END)[0] + HEAD_END
    assert whole.endswith(b"\r\n0\r\n\r\n")
    for end, is_reset, rest in (
        ("clean", False, b"0\r\n\r\n"),
        ("close", False, b""),
        ("reset", True, b""),
    ):
        answer, was_reset = listed(f"cut=7,end={end}")
        assert was_reset is is_reset
        assert len(answer.partition(HEAD_END)[0]) == len(head) - len(HEAD_END)
        assert answer.partition(HEAD_END)[2] == b"7\r\n" + BODY[:7] + b"\r\n" + rest
        # Nothing of the body but its end; and all of it, with an end that is none.
        answer, was_reset = listed(f"cut=0,end={end}")
        assert (answer.partition(HEAD_END)[2], was_reset) == (rest, is_reset)
        answer, was_reset = listed(f"cut=10000,end={end}")
        framed = b"%x\r\n%s\r\n" % (len(BODY), BODY)
        assert (answer.partition(HEAD_END)[2], was_reset) == (framed + rest, is_reset)


def test_a_body_drips_one_byte_at_a_time() -> None:
    answer, is_reset = listed("drip")
    assert answer.partition(HEAD_END)[2] == (
        b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    )
    assert not is_reset


def test_bytes_that_drip_are_sent_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    class Watched(socket.socket):
        def send(self, data: Any, flags: int = 0, /) -> int:
            sent.append(bytes(data))
            return super().send(data, flags)

    monkeypatch.setattr("socket.socket", Watched)
    listed("drip")
    assert sum(data.startswith(b"1\r\n") for data in sent) == len(BODY)


def test_a_delay_holds_up_nobody_else() -> None:
    with (
        running_emulator(Emulator(faults=FaultPlan("list:delay=60"))) as base_url,
        connect(base_url) as slow,
        connect(base_url) as quick,
    ):
        slow.sendall(LIST)
        time.sleep(0.01)  # so that it is the slow one that meets the fault
        quick.sendall(LIST)
        assert quick.recv(65536).startswith(b"HTTP/1.1 200")
        slow.settimeout(0)
        with pytest.raises(BlockingIOError):
            slow.recv(1)


def test_a_delay_ends_by_itself_and_the_connection_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transports.emulator._HOUSEKEEPING", 60)
    with (
        running_emulator(Emulator(faults=FaultPlan("list:delay=0.03"))) as base_url,
        connect(base_url) as connection,
    ):
        began = time.monotonic()
        connection.sendall(LIST)
        time.sleep(0.005)
        connection.sendall(LIST)  # what comes meanwhile is read once the delay is over
        assert connection.recv(1) == b"H"
        assert time.monotonic() - began >= 0.03
        connection.shutdown(socket.SHUT_WR)
        received, is_reset = read_all(connection)
        assert b"".join(received).count(b"TTP/1.1 200") == 2
        assert not is_reset


def test_a_delay_does_not_keep_the_server_busy_nor_from_stopping() -> None:
    with (
        running_emulator(Emulator(faults=FaultPlan("list:delay=60"))) as base_url,
        connect(base_url) as left,
        connect(base_url) as waiting,
    ):
        left.sendall(LIST)
        left.close()  # what comes during a delay, an end included, is looked at after it
        waiting.sendall(LIST + b"more")
        time.sleep(0.01)
        began = time.process_time()
        time.sleep(0.05)
        assert time.process_time() - began < 0.03
    # And both connections are closed: the fixture sees to that.


def test_what_comes_after_a_broken_off_answer_is_not_answered() -> None:
    for rule in ("list:cut=3", "list:drop=before,end=close"):
        with (
            running_emulator(Emulator(faults=FaultPlan(rule))) as base_url,
            connect(base_url) as connection,
        ):
            connection.sendall(LIST * 2)
            received, is_reset = read_all(connection)
            assert b"".join(received).count(b"HTTP/1.1") == (rule == "list:cut=3")
            assert not is_reset


def test_a_large_file_is_cut_at_the_byte() -> None:
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
        assert 100_000 < len(body) < 100_100  # what is over is the framing


# --- what a client makes of it -----------------------------------------------------------


def many(count: int) -> list[dict[str, Any]]:
    return [{**REQUEST, "custom_id": f"r{number}"} for number in range(count)]


def ids(items: list[ResultItem[Any] | MalformedResultError]) -> list[str]:
    return sorted(item.custom_id for item in items if isinstance(item, ResultItem))


@pytest.mark.parametrize(
    "what", ["status=429,retry_after=0", "status=500", "status=503,proxy_page", "status=529"]
)
def test_a_create_is_made_again_after_a_status_that_had_no_effect_or_not_at_all(what: str) -> None:
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
def test_a_create_whose_answer_is_lost_may_or_may_not_have_been_made(
    what: str, created: int
) -> None:
    with faulty(f"create:{what}") as (client, _):
        with pytest.raises(OutcomeUnknownError):
            client.create([REQUEST])
        assert len(client.list().data) == created


@pytest.mark.parametrize(
    "what",
    ["status=529", "proxy_page", "drop=before", "drop=after", "cut=9", "cut=9,end=reset"],
)
def test_a_read_is_tried_again(what: str) -> None:
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
        # A kept connection that died is no try of its own.
        assert set(emulator.faults.applied) == {f"get:{what}"}
        assert len(emulator.faults.applied) >= RETRIES.attempts


def test_a_wait_goes_on_over_all_that_passes() -> None:
    with faulty(
        "get:status=529", "get:drop=before", "get:cut=3", "get:drip", "create:missing_for=0.03"
    ) as (client, emulator):
        batch = client.create([REQUEST])
        assert client.wait_for(batch.id, poll_interval=0.005, timeout=5).ended
        assert not emulator.faults.unmet


@pytest.mark.parametrize("what", ["cut=0", "cut=20000", "cut=20000,end=reset", "drop=before"])
def test_results_that_break_off_are_read_again(what: str) -> None:
    with faulty(f"results:{what},times=2") as (client, emulator):
        batch = client.wait_for(client.create(many(60)).id, poll_interval=0.01)
        items = client.results(batch)
        assert ids(items) == sorted(request["custom_id"] for request in many(60))
        assert not emulator.faults.unmet


def test_results_that_drip_are_whole() -> None:
    with faulty("results:drip") as (client, _):
        batch = client.wait_for(client.create(many(3)).id, poll_interval=0.01)
        assert ids(client.results(batch)) == ["r0", "r1", "r2"]


def test_results_that_are_silently_short_are_told() -> None:
    with faulty("results:cut=0,end=clean,times=always") as (client, _):
        batch = client.wait_for(client.create(many(60)).id, poll_interval=0.01)
        with pytest.raises(IncompleteResultsError):
            client.results(batch)


def test_strange_results_cost_no_other_result() -> None:
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


def test_archived_expired_and_missing() -> None:
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


def test_faults_can_be_added_while_it_serves() -> None:
    with faulty() as (client, emulator):
        batch = client.create([REQUEST])
        emulator.faults.add("get:status=529,should_retry=false")
        with pytest.raises(OverloadedError):
            client.get(batch.id)
        assert client.get(batch.id).id == batch.id


def test_a_seed_lets_a_whole_job_go_wrong_the_same_way_every_time() -> None:
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


# --- the command -------------------------------------------------------------------------


def test_the_command_takes_faults() -> None:
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
            answers = []
            for _ in range(3):
                with connect(base_url) as connection:
                    connection.sendall(LIST)
                    with contextlib.suppress(OSError):  # it may be closed already
                        connection.shutdown(socket.SHUT_WR)
                    answers.append(b"".join(read_all(connection)[0]))
            process.send_signal(2)
            assert process.wait(10) == 0
        finally:
            process.kill()  # where it did not stop by itself, the test is not to hang
    assert answers[0].startswith(b"HTTP/1.1 529")
    assert answers[1].endswith(HEAD_END + b"3\r\n" + BODY[:3] + b"\r\n")
    assert answers[2].endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--fault", "create:statsu=503"], "no field is called 'statsu'"),
        (["--fault", "creates:status=503"], "route is one of create, get,"),
        (["--fault", "create"], "as in create:status=503"),
        (["--fault-rate", "0.5"], "--fault-rate goes with --fault-seed"),
        (["--fault-seed", "1", "--fault-rate", "2"], "a share from 0 to 1"),
        (["--fault-seed", "one"], "invalid int"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert told in capsys.readouterr().err
