"""The fuzz targets: each is a function of a fuzzer's bytes that raises if something is wrong.

They count work and measure no time, so the same bytes always give the same verdict. `SEEDS` and
`WORDS` are where a fuzzer starts from.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

from .head_target import head
from .jsonl_reference import LIMITS, PIECES
from .jsonl_target import jsonl
from .operation_target import operation
from .operations import KINDS

TARGETS: dict[str, Callable[[bytes], None]] = {
    "jsonl": jsonl,
    "head": head,
    "operation": operation,
}

_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
_RESPONSES = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + _CHUNKS,
    b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ncontent-encoding: deflate\r\n\r\n" + zlib.compress(b"hello"),
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"hello", mtime=0),
)
#: The inputs that a fuzzer starts from, by target.
SEEDS: dict[str, list[bytes]] = {
    "jsonl": [
        *(bytes([limit, 7]) + piece for limit in range(len(LIMITS)) for piece in PIECES),
        *(bytes([limit, 7]) + b"".join(PIECES) for limit in range(len(LIMITS))),
    ],
    "head": [
        *(b"\1\2" + response for response in _RESPONSES),
        *(b"\1\1" + response for response in _RESPONSES),
        b'\0\0\x0b\x05{"a"}retry-after:12.5\nx-should-retry: true',
        b"\0\0\x18\0retry-after:Fri, 01 May 2026 20:29:35 GMT\ndate:Fri, 01 May 2026 20:29:05 GMT",
        b"\0\0\x19\0retry-after-ms: 70\nretry-after:3",
    ],
    "operation": [
        *(bytes([kind, 2, 0, 1]) + b"\0\1" * 12 for kind in range(len(KINDS))),
        *(bytes([kind, 2, 0, 1]) + b"\x81\x05\0\0\1\0\1" * 9 for kind in range(len(KINDS))),
    ],
}
#: The words that a fuzzer inserts.
WORDS: tuple[bytes, ...] = (
    *PIECES,
    *(b"HTTP/1.1 ", b"content-length: ", b"transfer-encoding: chunked", b"\r\n\r\n", b"gzip"),
    *(b"content-encoding: ", b"retry-after", b"retry-after-ms", b"date", b"GMT", b"x-should-retry"),
    *(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", b"x\x9c", b"deflate", b"connection: close"),
    *(b'"custom_id":"c"', b'"result":', b'"type":"succeeded"', b'"error":', b'"request_id":"r"'),
)
