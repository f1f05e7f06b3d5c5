"""How much work it is to read results: counts for many sizes of chunks and of lines."""

from __future__ import annotations

from functools import partial

import pytest

from batches_core import Done, MalformedResultError, Message, Need, ResultItem, ResultsReceived
from batches_core.decoding import ResultDecoder, message_decoder
from batches_core.jsonl import JSONLines
from tests.support.playbook import Playbook, result_line
from tests.support.results_playbook import start_reading
from tests.support.work import CountedBytes, Work, allocated, counted


class CountingDecoder:
    """A decoder that counts its calls and the bytes that it decodes."""

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


class NullDecoder:
    """A decoder that allocates no items, so that only the memory of the reader is counted."""

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

of_both_shapes = pytest.mark.parametrize(
    "body", [lines(2000), ONE_LINE], ids=["many lines", "one long line"]
)


@pytest.mark.parametrize("size", [64, 1000, 4096, 65536])
def test_a_chunk_is_decoded_in_one_call_and_one_more_for_a_line_from_an_earlier_chunk(
    size: int,
) -> None:
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
    # Every byte once, except the line ends of lines that are decoded alone.
    assert decoder.bytes == len(body) - decoder.lines


@pytest.mark.parametrize("size", [64, 4096, 65536])
def test_a_long_line_is_decoded_once_when_it_is_complete(size: int) -> None:
    decoder = CountingDecoder()
    reader = JSONLines(decoder)
    assert sum(len(reader.feed(chunk)) for chunk in cut(ONE_LINE, size)) == 1
    assert (decoder.blocks, decoder.lines, decoder.bytes) == (0, 1, len(ONE_LINE) - 1)


@of_both_shapes
@pytest.mark.parametrize("size", [64, 1000, 4096, 65536])
def test_each_byte_is_searched_once(body: bytes, size: int) -> None:
    chunks = cut(body, size)
    reader = JSONLines(message_decoder())
    with counted() as work:
        for chunk in chunks:
            reader.feed(CountedBytes.of(chunk, work))
    # The last line feed of a chunk is read twice: from the end of the chunk and from its start.
    limit = len(body) + len(chunks)
    assert work.searched <= limit


@of_both_shapes
@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_only_lines_that_are_cut_are_copied(body: bytes, size: int) -> None:
    reader = JSONLines(NullDecoder())
    chunks = cut(body, size)
    copied = allocated([partial(reader.feed, chunk) for chunk in chunks])
    line = len(body) // body.count(b"\n")
    # A cut line is joined, and copied once more for the decoder. Everything else is references to
    # items, and Python's own objects.
    of_cut_lines = 2.2 * min(len(body), line * len(chunks))
    assert copied <= of_cut_lines + 20 * body.count(b"\n") + 1000 * len(chunks)


def read_chunks(book: Playbook, chunks: list[bytes]) -> tuple[Work, list[object]]:
    """Pass chunks of a results body as a transport does; return the work and the events."""
    operation = book.operation
    events: list[object] = []
    with counted() as work:
        for chunk in chunks:
            operation.receive_data(1, chunk, 0.0)
            while (event := operation.next_event()) is not Need.DATA:
                events.append(event)
    return work, events


@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_a_chunk_that_completes_lines_gives_one_event(size: int) -> None:
    body = lines(500)
    book = start_reading(500)
    book.head()
    assert book.operation.next_event() is Need.DATA
    chunks = cut(body, size)
    _, events = read_chunks(book, chunks)
    assert all(isinstance(event, ResultsReceived) for event in events)
    assert len(events) == sum(b"\n" in chunk for chunk in chunks)
    book.operation.receive_eof(1, 0.0)
    assert isinstance(book.operation.next_event(), Done)


def test_a_thousand_items_in_a_chunk_take_as_many_calls_as_ten() -> None:
    calls = []
    for count in (10, 1000):
        book = start_reading(count)
        book.head()
        assert book.operation.next_event() is Need.DATA
        work, [event] = read_chunks(book, [lines(count)])
        assert isinstance(event, ResultsReceived)
        assert len(event.items) == count
        calls.append(work.calls)
    assert calls[0] == calls[1]
    # The input, and two times the way through the operation and its flow.
    assert calls[0] <= 30


def test_a_malformed_line_makes_only_its_own_chunk_be_decoded_line_by_line() -> None:
    chunks = [lines(100), lines(100)[:-1] + b"\nno result\n", lines(100)]
    decoder = CountingDecoder()
    reader = JSONLines(decoder)
    found = [item for chunk in chunks for item in reader.feed(chunk)]
    assert sum(isinstance(item, MalformedResultError) for item in found) == 1
    assert (decoder.blocks, decoder.lines) == (2, 101)


def test_three_thousand_blank_lines_take_a_few_calls() -> None:
    decoder = CountingDecoder()
    with counted() as work:
        assert JSONLines(decoder).feed(b"\r\n \n\n" * 1000) == []
    assert (decoder.blocks, decoder.lines) == (0, 0)
    assert work.calls <= 10
