"""The state machine for `JSONLines`: any bytes in any pieces, compared with the reference."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from .jsonl_reference import (
    LIMITS,
    PIECES,
    CheckedReading,
    comparable,
    items_of_complete_lines,
    read_body,
)

#: What a body can begin with: nothing, or a byte order mark in one piece or several.
BYTE_ORDER_MARKS = ((), (b"\xef\xbb\xbf",), (b"\xef", b"\xbb\xbf"), (b"\xef", b"\xbb", b"\xbf"))


class JSONLinesMachine(RuleBasedStateMachine):
    """Feeds a body in pieces; at any time its complete lines have been delivered."""

    @initialize(max_line=st.sampled_from(LIMITS), mark=st.sampled_from(BYTE_ORDER_MARKS))
    def begin(self, max_line: int, mark: tuple[bytes, ...]) -> None:
        self.body = b""
        self.reading = CheckedReading(max_line)
        for piece in mark:
            self.feed(piece)

    @rule(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
    def feed_pieces(self, pieces: list[bytes]) -> None:
        self.feed(b"".join(pieces))

    @rule(blanks=st.text(" \t\r\n", max_size=9), cut=st.integers(0, 9))
    def feed_blanks(self, blanks: str, cut: int) -> None:
        self.feed(blanks[:cut].encode())
        self.feed(blanks[cut:].encode())

    @rule(data=st.binary(max_size=20))
    def feed_any_bytes(self, data: bytes) -> None:
        self.feed(data)

    @rule(data=st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map(b"".join))
    def feed_byte_by_byte(self, data: bytes) -> None:
        for index in range(min(len(data), 120)):
            self.feed(data[index : index + 1])

    def feed(self, data: bytes) -> None:
        self.body += data
        self.reading.feed(data)

    @invariant()
    def all_complete_lines_are_delivered(self) -> None:
        expected = items_of_complete_lines(self.body, self.reading.max_line)
        items, is_cut = self.reading.outcome
        assert not is_cut
        assert items == [comparable(item) for item in expected]

    def teardown(self) -> None:
        if hasattr(self, "body"):
            self.reading.finish()
            assert self.reading.outcome == read_body(self.body, self.reading.max_line)
