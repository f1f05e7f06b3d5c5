"""Serves an emulator that has many batches, none of which ends.

    python -m benchmarks.emulator 10000

It prints its base URL and serves until its stdin closes.
"""

from __future__ import annotations

import sys
import time

import msgspec

from batches_core import Request
from batches_core.emulator import Emulator
from batches_core.lowlevel import BytesBody
from transports.emulator import running_emulator

#: Slow enough that no batch ends during a measure.
_SPEED = 1e-9
_OK = 200


def main(batches: int) -> None:
    """Create the batches and serve them."""
    emulator = Emulator(speed=_SPEED)
    messages = [{"role": "user", "content": "Why is the sea salt?"}]
    params = {"model": "claude-haiku-4-5", "max_tokens": 200, "messages": messages}
    body = msgspec.json.encode({"requests": [{"custom_id": "sea", "params": params}]})
    headers = (
        ("x-api-key", "a key"),
        ("anthropic-version", "2023-06-01"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
    )
    url = "http://127.0.0.1/v1/messages/batches"
    create = Request(method="POST", url=url, headers=headers, body=BytesBody((body,)))
    for _ in range(batches):
        response = emulator.handle(create, time.time())
        assert response.status == _OK, "the emulator accepts every batch"  # noqa: S101
    with running_emulator(emulator) as base_url:
        sys.stdout.write(base_url + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
