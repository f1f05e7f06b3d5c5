"""Repeatable numbers in place of randomness, and ids made of them.

The emulator draws no random numbers: the same requests at the same times repeat a run exactly.
"""

from __future__ import annotations

import hashlib

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: The number of characters after the prefix of an id, as in the live service's ids.
_ID_LENGTH = 22


def digest(*parts: str) -> int:
    """Return a number of 128 bits that depends on the parts alone."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest())


def batch_id(number: int) -> str:
    """Return the id of the nth batch that an emulator creates; `number` is n, from 1."""
    return "msgbatch_01" + _base62(digest("batch", str(number)))


def request_id(number: int) -> str:
    """Return the id of the nth request that an emulator handles; `number` is n, from 1."""
    return "req_01" + _base62(digest("request", str(number)))


def _base62(number: int) -> str:
    letters = []
    for _ in range(_ID_LENGTH):
        number, letter = divmod(number, len(_BASE62))
        letters.append(_BASE62[letter])
    return "".join(letters)
