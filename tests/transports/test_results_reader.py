"""Reading downloaded results."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

import transports.files
from batches_core import InvalidInputError, LocalProtocolError, MalformedResultError, ResultItem
from batches_core.emulator import Emulator
from tests.support.batches import ONE_ATTEMPT
from tests.support.playbook import REQUEST, result_line
from transports._files import results_reader
from transports.emulator import running_emulator
from transports.files import read_results
from transports.h11 import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

A, B = result_line("a"), result_line("b")


def results_path(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_bytes(data)
    return path


def ids_of(items: Any) -> list[str | None]:
    return [item.custom_id for item in items]


@pytest.mark.parametrize("read_size", [1, 7, 1_000_000])
def test_a_results_reader_accepts_the_same_lines_as_a_results_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_size: int
) -> None:
    monkeypatch.setattr(results_reader, "_READ", read_size)
    unknown = b'{"custom_id":"c","result":{"type":"new"}}\n'
    data = b"\xef\xbb\xbf" + A[:-1] + b"\r\n\n  \r\n" + b"{\n" + unknown + B[:-1]
    with read_results(results_path(tmp_path, data)) as results:
        items = [*results]
    assert ids_of(items) == ["a", None, "c", "b"]
    assert [type(item) for item in items] == [
        ResultItem,
        MalformedResultError,
        ResultItem,
        ResultItem,
    ]
    assert isinstance(items[1], MalformedResultError)
    assert items[1].line_number == 4


def test_reading_a_download_returns_the_items_of_the_results_stream(tmp_path: Path) -> None:
    requests = [{**REQUEST, "custom_id": f"r{n}"} for n in range(500)]
    path = tmp_path / "results.jsonl"
    with (
        running_emulator(Emulator(speed=1e6)) as base_url,
        BatchesClient(api_key="k", base_url=base_url, retry=ONE_ATTEMPT) as client,
    ):
        batch = client.wait_for(client.create(requests).id, poll_interval=0.01)
        assert client.download(batch, path) == 500
        assert [*read_results(path)] == client.results(batch)


@pytest.mark.parametrize(
    "end",
    [b"{", b'{"custom_id":"b"', B[:-3], b"garbage"],
    ids=["brace", "id", "cut line", "garbage"],
)
def test_a_results_file_that_ends_within_a_line_raises_after_its_items(
    tmp_path: Path, end: bytes
) -> None:
    results = read_results(results_path(tmp_path, A + end))
    assert next(results).custom_id == "a"
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"results.jsonl ends in the middle of a line"):
            next(results)
    assert results._file.closed


def test_a_results_reader_closes_its_file_at_the_end_and_on_close(tmp_path: Path) -> None:
    path = results_path(tmp_path, A + B)
    results = read_results(path)
    assert ids_of(results) == ["a", "b"]
    assert results._file.closed
    assert ids_of(results) == []
    with read_results(path) as results:
        assert next(results).custom_id == "a"
    assert results._file.closed
    with pytest.raises(LocalProtocolError, match="was closed: read the file again"):
        next(results)
    assert repr(results) == f"<ResultsReader of {str(path)!r}>"


def test_a_results_reader_keeps_one_piece_of_its_file_in_memory(tmp_path: Path) -> None:
    path = results_path(tmp_path, b"".join(result_line(f"r{n}", "x" * 5000) for n in range(4000)))
    tracemalloc.start()
    try:
        with read_results(path) as results:
            assert sum(1 for _ in results) == 4000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert peak < 3_000_000


def test_a_results_reader_accepts_a_message_type_and_a_line_limit(tmp_path: Path) -> None:
    path = results_path(tmp_path, A + result_line("long", "x" * 2000) + B)
    items = [*read_results(path, dict[str, Any], max_line=1000)]
    assert [isinstance(item, MalformedResultError) and item.is_cut for item in items] == [
        False,
        True,
        False,
    ]
    assert isinstance(items[0], ResultItem)
    assert type(msgspec.to_builtins(items[0].result)["message"]) is dict
    with pytest.raises(TypeError, match="not a type that msgspec can decode"):
        read_results(path, threading.Lock)
    with pytest.raises(FileNotFoundError):
        read_results(tmp_path / "none")


def test_an_interrupted_results_reader_raises_a_local_protocol_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> Any:
        raise KeyboardInterrupt

    results = read_results(results_path(tmp_path, A + B))
    with monkeypatch.context() as patch:
        patch.setattr(results._lines, "feed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(results)
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="interrupted in the middle"):
            next(results)
    assert results._file.closed


def test_the_files_module_exports_three_names() -> None:
    assert transports.files.__all__ == ["RequestsFile", "ResultsReader", "read_results"]
