"""The data that is measured with: results and requests as the service has them, made from a seed.

Knows the shapes on the wire, and nothing of who reads them. Every call makes the same bytes.
Messages have 50 to 500 words, with line ends and quotes in all and letters beyond ASCII in many;
97 % of the results succeeded. So that a file of any length is made fast, the ids of all lines
differ, but after `_DISTINCT` lines the texts begin again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

#: How many texts there are.
_DISTINCT = 5_000
_SEED = 20_240_924
_FEWEST_WORDS, _MOST_WORDS = 50, 500
#: A result is one of these, so many times in a hundred.
_KINDS = {"succeeded": 97, "errored": 1, "canceled": 1, "expired": 1}
_MODEL = "claude-sonnet-4-5-20250929"
#: The size of a request with which 100,000 of them just stay under 256 MB, in bytes.
_FULL_REQUEST = 2_559
_SYSTEM = "You answer questions about the sea, briefly, and say where you are not sure. " * 6

_WORDS = (  # noqa: SIM905 - prose reads better as prose
    "the of and to in a is that it for on as with was are be this by at from or an not but what "
    "all were when we there can more if out so up said its about into than them only other time "
    "new some could these two may first then do any like my now over such our even most made "
    "after also did many off before must well back through years much where your way down should "
    "because long each just state people those too mr how little good world make very year still "
    "see work life men old both between under never day same another know while last might us "
    "great go come since against right came take used himself few house use place during high "
    "without again home around small however found part once general upon school every don't does "
    "water salt sea river mineral evaporation concentration approximately equilibrium therefore"
).split()
#: What stands in a text that JSON has to escape: one word in so many.
_ESCAPED = ("\n\n", '"salty"', "\n- **First:**", "C:\\sea")
_ONE_IN = 40
#: What is not ASCII, and in which share of the texts: it sets how wide a str is in memory.
_WIDE = {"—": 0.5, "naïve": 0.1, "😀": 0.05}


def _text(chance: random.Random) -> str:
    words = chance.choices(_WORDS, k=chance.randint(_FEWEST_WORDS, _MOST_WORDS))
    odd = chance.choices(_ESCAPED, k=len(words) // _ONE_IN)
    odd += [word for word, share in _WIDE.items() if chance.random() < share]
    for word in odd:
        words[chance.randrange(len(words))] = word
    return " ".join(words)


def _id(chance: random.Random, prefix: str) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    return prefix + "01" + "".join(chance.choices(alphabet, k=22))


def _result(chance: random.Random) -> dict[str, Any]:
    kind = chance.choices([*_KINDS], [*_KINDS.values()])[0]
    if kind == "errored":
        error = {"type": "invalid_request_error", "message": "messages.0: Input is not valid"}
        nested = {"type": "error", "error": error, "request_id": _id(chance, "req_")}
        return {"type": kind, "error": nested}
    if kind != "succeeded":
        return {"type": kind}
    text = _text(chance)
    usage = {
        "input_tokens": chance.randint(20, 2_000),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": len(text) // 4,
        "service_tier": "batch",
    }
    message = {
        "model": _MODEL,
        "id": _id(chance, "msg_"),
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "stop_reason": chance.choice(["end_turn"] * 9 + ["max_tokens"]),
        "stop_sequence": None,
        "usage": usage,
    }
    return {"type": kind, "message": message}


class Results:
    """A file of results, of as many lines as are asked for."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        chance = random.Random(_SEED)  # noqa: S311 - seeded on purpose
        results = [_result(chance) for _ in range(min(lines, _DISTINCT))]
        self._rests = [msgspec.json.encode(result) + b"}\n" for result in results]
        self._kinds = [str(result["type"]) for result in results]

    def ids(self) -> Iterator[str]:
        """Give the custom_id of each line."""
        return (f"request-{number:07d}" for number in range(self._lines))

    def counts(self) -> dict[str, int]:
        """Count the lines by their type, as a batch does."""
        rounds, rest = divmod(self._lines, len(self._kinds))
        counted = Counter({kind: rounds * n for kind, n in Counter(self._kinds).items()})
        counted.update(self._kinds[:rest])
        return {"processing": 0, **{kind: counted[kind] for kind in _KINDS}}

    def lines(self) -> Iterator[bytes]:
        """Make the lines, each with its line end."""
        rests = self._rests
        distinct = len(rests)
        for number in range(self._lines):
            yield b'{"custom_id":"request-%07d","result":%b' % (number, rests[number % distinct])


def _params(chance: random.Random, size: int | None) -> bytes:
    """Make the params of a request, of any size or of one size in bytes."""
    text = _text(chance)
    if size is not None:
        text = text[: size // 4]
    messages = [{"role": "user", "content": text}]
    params = {"model": _MODEL, "max_tokens": 1024, "system": _SYSTEM, "messages": messages}
    encoded = msgspec.json.encode(params)
    if size is not None:
        more = (_SYSTEM * (size // len(_SYSTEM) + 1))[: size - len(encoded)]
        encoded = msgspec.json.encode({**params, "system": _SYSTEM + more})
    return encoded


def request_lines(count: int, *, full: bool = False) -> Iterator[bytes]:
    """Make the lines of a requests file; with `full` so long that 100,000 of them reach 256 MB."""
    chance = random.Random(_SEED + 1)  # noqa: S311 - seeded on purpose
    around = b'{"custom_id":"request-%07d","params":%b}\n'
    # In the body that is sent a comma takes the place of the line end.
    size = _FULL_REQUEST - len(around % (0, b"")) if full else None
    params = [_params(chance, size) for _ in range(min(count, _DISTINCT))]
    for number in range(count):
        yield around % (number, params[number % len(params)])


def chunks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut bytes anew, into chunks of one size but for the last."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def write(path: Path, lines: Iterable[bytes]) -> Path:
    """Write a file, unless an earlier run left it."""
    if not path.exists():
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            file.writelines(lines)
        unfinished.rename(path)
    return path
