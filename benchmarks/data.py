"""Generates results and requests in the service's JSON, from a fixed seed.

Every call generates the same bytes. Messages have 50 to 500 words. All contain characters that JSON
escapes, and many contain characters beyond ASCII. 97 % of the results succeeded. Every custom_id is
unique, but the rest repeats after `_DISTINCT` lines, so that long files are generated fast.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

#: The number of different results, and of different requests.
_DISTINCT = 5_000
_SEED = 20_240_924
_FEWEST_WORDS, _MOST_WORDS = 50, 500
#: The types of results, with their share in percent.
_TYPES = {"succeeded": 97, "errored": 1, "canceled": 1, "expired": 1}
_MODEL = "claude-sonnet-4-5-20250929"
#: The size of a request in bytes, so that 100,000 of them stay just below 256 MB.
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
#: Texts that JSON has to escape. A message of 400 words contains ten of them.
_ESCAPED = ("\n\n", '"salty"', "\n- **First:**", "C:\\sea")
_WORDS_PER_ESCAPE = 40
#: Texts beyond ASCII, with the share of messages that contain them. The widest character decides
#: whether Python stores a str with 1, 2 or 4 bytes a character.
_NON_ASCII = {"—": 0.5, "naïve": 0.1, "😀": 0.05}


def _text(rng: random.Random) -> str:
    words = rng.choices(_WORDS, k=rng.randint(_FEWEST_WORDS, _MOST_WORDS))
    special = rng.choices(_ESCAPED, k=len(words) // _WORDS_PER_ESCAPE)
    special += [word for word, share in _NON_ASCII.items() if rng.random() < share]
    for word in special:
        words[rng.randrange(len(words))] = word
    return " ".join(words)


def _id(rng: random.Random, prefix: str) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    return prefix + "01" + "".join(rng.choices(alphabet, k=22))


def _result(rng: random.Random) -> dict[str, Any]:
    type_ = rng.choices([*_TYPES], [*_TYPES.values()])[0]
    if type_ == "errored":
        error = {"type": "invalid_request_error", "message": "messages.0: Input is not valid"}
        nested = {"type": "error", "error": error, "request_id": _id(rng, "req_")}
        return {"type": type_, "error": nested}
    if type_ != "succeeded":
        return {"type": type_}
    text = _text(rng)
    usage = {
        "input_tokens": rng.randint(20, 2_000),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": len(text) // 4,
        "service_tier": "batch",
    }
    message = {
        "model": _MODEL,
        "id": _id(rng, "msg_"),
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "stop_reason": rng.choice(["end_turn"] * 9 + ["max_tokens"]),
        "stop_sequence": None,
        "usage": usage,
    }
    return {"type": type_, "message": message}


class GeneratedResults:
    """The contents of a results file with `lines` lines, of all types or only successes."""

    def __init__(self, lines: int, *, only_succeeded: bool = False) -> None:
        self._lines = lines
        rng = random.Random(_SEED)  # noqa: S311 - seeded on purpose
        results = [_result(rng) for _ in range(min(lines, _DISTINCT))]
        if only_succeeded:
            results = [result for result in results if result["type"] == "succeeded"]
        self._line_ends = [msgspec.json.encode(result) + b"}\n" for result in results]
        self._types = [str(result["type"]) for result in results]

    def ids(self) -> Iterator[str]:
        """Return the custom_id of each line."""
        return (f"request-{number:07d}" for number in range(self._lines))

    def counts(self) -> dict[str, int]:
        """Return the number of lines of each type, as the `request_counts` of a batch."""
        repeats, rest = divmod(self._lines, len(self._types))
        counts = Counter({type_: repeats * n for type_, n in Counter(self._types).items()})
        counts.update(self._types[:rest])
        return {"processing": 0, **{type_: counts[type_] for type_ in _TYPES}}

    def lines(self, first: int = 0, count: int | None = None) -> Iterator[bytes]:
        """Generate the lines, each with its line feed: by default all, else `count` of them."""
        ends = self._line_ends
        distinct = len(ends)
        for number in range(first, self._lines if count is None else first + count):
            yield b'{"custom_id":"request-%07d","result":%b' % (number, ends[number % distinct])


def _params(rng: random.Random, size: int | None) -> bytes:
    """Generate the encoded params of a request. `size` is their size in bytes; None for any."""
    text = _text(rng)
    if size is not None:
        text = text[: size // 4]
    messages = [{"role": "user", "content": text}]
    params = {"model": _MODEL, "max_tokens": 1024, "system": _SYSTEM, "messages": messages}
    encoded = msgspec.json.encode(params)
    if size is not None:
        padding = (_SYSTEM * (size // len(_SYSTEM) + 1))[: size - len(encoded)]
        encoded = msgspec.json.encode({**params, "system": _SYSTEM + padding})
    return encoded


def request_lines(count: int, *, full: bool = False) -> Iterator[bytes]:
    """Generate the lines of a requests file.

    With `full`, every line is so long that 100,000 of them just stay below the limit of 256 MB.
    """
    rng = random.Random(_SEED + 1)  # noqa: S311 - seeded on purpose
    template = b'{"custom_id":"request-%07d","params":%b}\n'
    # The line feed counts towards the size: in the body of the create it becomes a comma.
    size = _FULL_REQUEST - len(template % (0, b"")) if full else None
    params = [_params(rng, size) for _ in range(min(count, _DISTINCT))]
    for number in range(count):
        yield template % (number, params[number % len(params)])


def rechunk(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Join pieces and cut them into chunks of `size` bytes. The last chunk may be shorter."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)


def write_once(path: Path, lines: Iterable[bytes]) -> Path:
    """Write lines to a file, unless an earlier run has left it there. Return its path."""
    if not path.exists():
        # An interrupted run must not leave an incomplete file under the final name.
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            file.writelines(lines)
        unfinished.rename(path)
    return path
