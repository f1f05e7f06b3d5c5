"""What several contenders need: their input, their client class and the digest of their output."""

from __future__ import annotations

import http.client
import importlib
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from benchmarks.task import NotThereError, Task


class ResultsDigest:
    """The number of result items, and in a verification run also a checksum of their contents.

    An item is an object with the fields of a result, as the types of all contenders have them.
    """

    def __init__(self, task: Task) -> None:
        self._verify = task.verify
        self._count = self._tokens = self._checksum = 0

    def update(self, items: Iterable[Any]) -> None:
        """Iterate over items and add them."""
        if not self._verify:
            for _ in items:
                self._count += 1
            return
        for item in items:
            self.add(item)

    def add(self, item: Any) -> None:
        """Add one item."""
        self._count += 1
        if not self._verify:
            return
        result = item.result
        content = f"{item.custom_id} {result.type}"
        if result.type == "succeeded":
            message = result.message
            self._tokens += message.usage.output_tokens
            texts = "".join(block.text for block in message.content)
            content += f" {message.id} {message.model} {message.stop_reason} {texts}"
        elif result.type == "errored":
            # The service nests one error in another. Some types keep both, others only the inner.
            error = getattr(result.error, "error", None) or result.error
            content += f" {error.type} {error.message}"
        self._checksum = zlib.crc32(content.encode(), self._checksum)

    def digest(self) -> dict[str, Any]:
        """Return the digest of all items so far."""
        digest: dict[str, Any] = {"items": self._count}
        if self._verify:
            digest |= {"output_tokens": self._tokens, "checksum": self._checksum}
        return digest


def client_class(task: Task) -> type[Any]:
    """Import the client class that a task names.

    Raises:
        NotThereError: The checkout has no such transport.

    """
    module, _, name = task.text("client").partition(":")
    try:
        transport = importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A missing dependency is a failure and must not look like a missing transport.
        if error.name != module:
            raise
        raise NotThereError(f"no module {module}") from None
    found: type[Any] = getattr(transport, name)
    return found


def file_chunks(task: Task) -> list[bytes]:
    """Read the results file in chunks of the size that the case sets."""
    size = task.number("chunk")
    with Path(task.text("results")).open("rb") as file:
        return [*iter(lambda: file.read(size), b"")]


#: The size in bytes of a line that is decoded before the measured one. Work that is done only
#: once would otherwise count as a cost per byte of the shortest line.
WARM_UP = 1000


def long_line_chunks(task: Task, size: int | None = None) -> list[bytes]:
    """Make one result of `size` bytes, by default the size that the case sets, in chunks."""
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
    """Read the requests file into dicts, as a user's code would make them."""
    lines = Path(task.text("requests")).read_bytes()
    return msgspec.json.decode(b"[%b]" % lines.rstrip().replace(b"\n", b","), type=list[Any])


def fetch_create_digest(task: Task) -> dict[str, int]:
    """Ask the server for the number and the checksum of the requests in the last create."""
    url = urlsplit(task.text("base_url"))
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.request("GET", "/check")
    with connection.getresponse() as response:
        return msgspec.json.decode(response.read(), type=dict[str, int])
