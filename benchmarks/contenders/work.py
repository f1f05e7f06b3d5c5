"""What contenders share: their input, and the look into what they made of it."""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from benchmarks.meter import Task


class Tally:
    """Counts results; in a proof it also looks into each, and sums up what is there.

    An item is anything with the fields of a result: all contenders' types have them.
    """

    def __init__(self, task: Task) -> None:
        self._proof = task.proof
        self._count = self._tokens = self._checksum = 0

    def take(self, items: Iterable[Any]) -> None:
        """Iterate over some items."""
        if not self._proof:
            for _ in items:
                self._count += 1
            return
        for item in items:
            self.take_one(item)

    def take_one(self, item: Any) -> None:
        """Count one item."""
        self._count += 1
        if not self._proof:
            return
        result = item.result
        seen = f"{item.custom_id} {result.type}"
        if result.type == "succeeded":
            message = result.message
            self._tokens += message.usage.output_tokens
            texts = "".join(block.text for block in message.content)
            seen += f" {message.id} {message.model} {message.stop_reason} {texts}"
        elif result.type == "errored":
            # Some types keep the service's two levels of an error, others make them one.
            error = getattr(result.error, "error", None) or result.error
            seen += f" {error.type} {error.message}"
        self._checksum = zlib.crc32(seen.encode(), self._checksum)

    def work(self) -> dict[str, Any]:
        """Sum up."""
        work: dict[str, Any] = {"items": self._count}
        if self._proof:
            work |= {"output_tokens": self._tokens, "checksum": self._checksum}
        return work


def file_chunks(task: Task) -> list[bytes]:
    """Read the results file into chunks of the size that the case names."""
    size = task.number("chunk")
    with Path(task.text("results")).open("rb") as file:
        return [*iter(lambda: file.read(size), b"")]


#: The size of a line that is decoded before the one that is measured, in bytes: what is only
#: done once would count as a cost of the shortest line's bytes.
WARM_UP = 1000


def long_line_chunks(task: Task, size: int | None = None) -> list[bytes]:
    """Make one result of a size, or of that which the case names, in chunks."""
    block = {"type": "text", "text": ""}
    message = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [block],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    item = {"custom_id": "long", "result": {"type": "succeeded", "message": message}}
    empty = len(msgspec.json.encode(item)) + 1
    size = size or task.number("size")
    block["text"] = ("All of the sea is salt. " * (size // 24 + 1))[: size - empty]
    line = msgspec.json.encode(item) + b"\n"
    step = task.number("chunk")
    return [line[n : n + step] for n in range(0, len(line), step)]


def read_dicts(task: Task) -> list[Any]:
    """Read the requests file into dicts, as a user holds them who made them in Python."""
    lines = Path(task.text("requests")).read_bytes()
    return msgspec.json.decode(b"[%b]" % lines.rstrip().replace(b"\n", b","), type=list[Any])


def checked(task: Task) -> dict[str, int]:
    """Ask the server what the last create was."""
    url = urlsplit(task.text("base_url"))
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.request("GET", "/check")
    with connection.getresponse() as response:
        return msgspec.json.decode(response.read(), type=dict[str, int])
