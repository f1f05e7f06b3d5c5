"""Reads the items of a source one by one; one of them can be put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from batches_core import BatchesError, InvalidInputError, RequestLike
from batches_core.lowlevel import NotEncodableError, encode_request, quote

from .sources import Source

#: Replaces line breaks between the values of JSON text by spaces.
_SPACES = bytes.maketrans(b"\r\n", b"  ")


class Item(NamedTuple):
    """A request of the source, or a blank line.

    `position` counts the items of the source, from 0. `line` is the line in which the item begins,
    if that is known. `encoded` is the request as JSON on one line. It is empty for a blank line,
    and None if the request cannot be written as JSON.
    """

    position: int
    line: int | None
    request: RequestLike
    encoded: bytes | None


class SourceItems:
    """The items of a source, from its beginning."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._items = self._read()
        #: An item that was read already, and belongs to the next chunk.
        self._pushed: Item | None = None
        self._position = 0
        #: The error that ended the source, if one did.
        self.failure: BatchesError | None = None

    @property
    def position(self) -> int:
        """The position of the next item, from 0."""
        return self._position if self._pushed is None else self._pushed.position

    def take(self) -> Item | None:
        """Return the next item; None after the last one.

        Raises:
            InvalidInputError: the source cannot be read, or raised an error.
        """
        item, self._pushed = self._pushed, None
        if item is not None:
            return item
        try:
            item = next(self._items, None)
        except BatchesError as error:
            self.failure = error
            raise
        except Exception as error:
            self.failure = InvalidInputError(
                f"reading {self._source.name} failed at its item {self._position:,} "
                f"({type(error).__name__}: {quote(str(error))}): correct that, then run the job "
                "again with the same requests"
            )
            raise self.failure from error
        if item is not None:
            self._position = item.position + 1
        return item

    def push_back(self, item: Item) -> None:
        """Put back an item that belongs to the next chunk. `take` returns it again."""
        self._pushed = item

    def _read(self) -> Iterator[Item]:
        for index, (line, request) in enumerate(self._source.read()):
            try:
                encoded = encode_request(request, index)
            except NotEncodableError:
                yield Item(index, line, request, None)
                continue
            # JSON text from the caller can contain line breaks between its values.
            if b"\n" in encoded or b"\r" in encoded:
                encoded = encoded.translate(_SPACES)
            yield Item(index, line, request, encoded)
