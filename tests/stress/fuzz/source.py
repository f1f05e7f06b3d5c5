"""A fuzzer's bytes as a source of choices."""

from __future__ import annotations

import random


class Source:
    """Reads bytes from the front; after their end it returns zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_empty(self) -> bool:
        return self._place >= len(self._data)

    def byte(self) -> int:
        return (self.take(1) or b"\0")[0]

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        taken = self._data[self._place : self._place + count]
        self._place += count
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """Cut bytes into small pieces, large ones, or single bytes."""
    longest = rng.choice((1, 3, 20, 500))
    pieces, start = [], 0
    while start < len(data):
        end = start + rng.randint(1, longest)
        pieces.append(data[start:end])
        start = end
    return pieces
