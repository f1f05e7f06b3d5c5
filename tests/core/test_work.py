"""What reading results may cost: counts of work, for every cut of the bytes and size of a line."""

from __future__ import annotations

from functools import partial

import pytest

from batches_core import Done, MalformedResultError, Message, Need, ResultItem, ResultsReceived
from batches_core.decoding import ResultDecoder, message_decoder
from batches_core.jsonl import JSONLines
from tests.core.test_results import start
from tests.support.playbook import Playbook, result_line
from tests.support.work import Work, allocated, counted


class CountingDecoder:
    """A decoder that counts its calls and what it was handed."""

    def __init__(self) -> None:
        self._decoder: ResultDecoder[Message] = message_decoder()
        self.blocks = 0
        self.lines = 0
        self.bytes = 0

    def decode_lines(self, block: bytes | memoryview) -> list[ResultItem[Message]]:
        self.blocks += 1
        self.bytes += len(block)
        return self._decoder.decode_lines(block)

    def decode_line(self, line: bytes, /) -> ResultItem[Message]:
        self.lines += 1
        self.bytes += len(line)
        return self._decoder.decode_line(line)


class NoDecoder:
    """A decoder that makes nothing new, so that what is left is what the lines themselves take."""

    def __init__(self) -> None:
        self._item = message_decoder().decode_line(lines(1))
        self._line = len(lines(1))

    def decode_lines(self, block: bytes | memoryview) -> list[ResultItem[Message]]:
        return [self._item] * (len(block) // self._line)

    def decode_line(self, line: bytes, /) -> ResultItem[Message]:
        del line
        return self._item


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def lines(count: int, words: int = 20) -> bytes:
    return b"".join(result_line(f"id-{n:04}", "word " * words) for n in range(count))


ONE_LINE = lines(1, 60_000)


@pytest.mark.parametrize("size", [64, 1000, 4096, 65536])
def test_a_chunk_is_decoded_in_one_call_but_for_the_line_that_another_one_began(size: int) -> None:
    body = lines(2000)
    decoder = CountingDecoder()
    reader = JSONLines(decoder)
    is_begun = False
    for chunk in cut(body, size):
        before = decoder.blocks, decoder.lines
        reader.feed(chunk)
        ends = chunk.count(b"\n")
        assert decoder.lines - before[1] == (is_begun and ends > 0)
        assert decoder.blocks - before[0] == (ends > (1 if is_begun else 0))
        is_begun = not chunk.endswith(b"\n")
    # Each byte once, and no line end of a line that is decoded alone.
    assert decoder.bytes == len(body) - decoder.lines


@pytest.mark.parametrize("size", [64, 4096, 65536])
def test_a_long_line_is_decoded_once_at_its_end(size: int) -> None:
    decoder = CountingDecoder()
    reader = JSONLines(decoder)
    assert sum(len(reader.feed(chunk)) for chunk in cut(ONE_LINE, size)) == 1
    assert (decoder.blocks, decoder.lines, decoder.bytes) == (0, 1, len(ONE_LINE) - 1)


@pytest.mark.parametrize("body", [lines(2000), ONE_LINE], ids=["many lines", "one long line"])
@pytest.mark.parametrize("size", [64, 1000, 4096, 65536])
def test_each_byte_is_searched_twice_at_most(body: bytes, size: int) -> None:
    chunks = cut(body, size)
    reader = JSONLines(message_decoder())
    with counted() as work:
        for chunk in chunks:
            reader.feed(chunk)
    # From the end for the last line's, and once through the lines that are complete.
    assert work.searched <= 2 * len(body)
    assert work.searches["rfind"] == len(chunks)
    assert work.searches.total() <= len(chunks) + body.count(b"\n")


@pytest.mark.parametrize("body", [lines(2000), ONE_LINE], ids=["many lines", "one long line"])
@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_no_byte_is_copied_but_of_a_line_that_is_cut(body: bytes, size: int) -> None:
    reader = JSONLines(NoDecoder())
    chunks = cut(body, size)
    copied = allocated([partial(reader.feed, chunk) for chunk in chunks])
    line = len(body) // body.count(b"\n")
    # A line that is cut is put together and given to the decoder; besides there are what is found,
    # as references in a list, and what Python's own objects take.
    of_cut_lines = 2.2 * min(len(body), line * len(chunks))
    assert copied <= of_cut_lines + 20 * body.count(b"\n") + 1000 * len(chunks)


def drive(book: Playbook, chunks: list[bytes]) -> tuple[Work, list[object]]:
    """Driver an operation through a results file as a transport does; give its events too."""
    operation = book.operation
    events: list[object] = []
    with counted() as work:
        for chunk in chunks:
            operation.receive_data(1, chunk, 0.0)
            while (event := operation.next_event()) is not Need.DATA:
                events.append(event)
    return work, events


@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_a_chunk_is_one_event(size: int) -> None:
    body = lines(500)
    book = start(500)
    book.head()
    assert book.operation.next_event() is Need.DATA
    chunks = cut(body, size)
    _, events = drive(book, chunks)
    assert all(isinstance(event, ResultsReceived) for event in events)
    assert len(events) == sum(b"\n" in chunk for chunk in chunks)
    book.operation.receive_eof(1, 0.0)
    assert isinstance(book.operation.next_event(), Done)


def test_no_function_is_called_for_each_item() -> None:
    calls = []
    for count in (10, 1000):
        book = start(count)
        book.head()
        assert book.operation.next_event() is Need.DATA
        work, [event] = drive(book, [lines(count)])
        assert isinstance(event, ResultsReceived)
        assert len(event.items) == count
        calls.append(work.calls)
    assert calls[0] == calls[1]
    # Two rounds through the operation and its script, and the way of the bytes to them.
    assert calls[0].total() <= 30


def test_one_bad_line_costs_its_own_chunk_and_no_other() -> None:
    chunks = [lines(100), lines(100)[:-1] + b"\nno result\n", lines(100)]
    decoder = CountingDecoder()
    reader = JSONLines(decoder)
    found = [item for chunk in chunks for item in reader.feed(chunk)]
    assert sum(isinstance(item, MalformedResultError) for item in found) == 1
    assert (decoder.blocks, decoder.lines) == (2, 101)


def test_a_run_of_blank_lines_is_not_gone_through() -> None:
    decoder = CountingDecoder()
    with counted() as work:
        assert JSONLines(decoder).feed(b"\r\n \n\n" * 1000) == []
    assert (decoder.blocks, decoder.lines) == (0, 0)
    assert work.calls.total() <= 10
