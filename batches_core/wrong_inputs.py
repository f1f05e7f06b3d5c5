"""Recognise common wrong inputs, such as a CSV file or a file of results, and say what to pass.

One message about the whole input replaces a problem for each of its lines. `request_checker`
decides when to ask for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from .batch_request import BatchRequest
from .decoding import UNDECODABLE
from .errors import InvalidInputError

#: How many bytes from the beginning of an input are compared.
_COMPARED = 100

_ONE_PER_LINE = 'write one request as JSON on each line, {"custom_id": …, "params": {…}}'
#: The first bytes of files in other formats, each with a description and a remedy.
_FILE_SIGNATURES = (
    (b"\x1f\x8b", "a gzip file: open it with gzip.open(path, 'rb')"),
    (b"BZh", "a bzip2 file: open it with bz2.open(path, 'rb')"),
    (b"\xfd7zXZ\x00", "an xz file: open it with lzma.open(path, 'rb')"),
    (b"\x28\xb5\x2f\xfd", "a zstandard file: decompress it first"),
    (b"PK\x03\x04", f"a zip or Excel file: {_ONE_PER_LINE}"),
    (b"PAR1", f"a Parquet file: {_ONE_PER_LINE}"),
    (b"\xff\xfe", "UTF-16 text: open it with open(path, encoding='utf-16')"),
    (b"\xfe\xff", "UTF-16 text: open it with open(path, encoding='utf-16')"),
    (b"{\x00", "UTF-16 text: open it with open(path, encoding='utf-16-le')"),
    (b"\x00{", "UTF-16 text: open it with open(path, encoding='utf-16-be')"),
)
#: Beginnings of JSON that is not a request, each with a description and a remedy.
_JSON_SIGNATURES = (
    (re.compile(rb"\["), "a JSON array: pass the list that json.load(file) returns"),
    (
        re.compile(rb'\{\s*"requests"\s*:'),
        "the body of a create: pass the list json.load(file)['requests']",
    ),
    (re.compile(rb"\{$"), f"JSON over several lines: {_ONE_PER_LINE}"),
)
#: The message about an input in which no line begins like a JSON object.
NO_JSON_OBJECTS = (
    f"this looks like a CSV file or other text: {_ONE_PER_LINE}, or pass a list of requests that "
    "you make from the rows of csv.DictReader(file)"
)
_OPEN_A_FILE = "to send a file pass RequestsFile(path) (from transports.files) or open(path, 'rb')"


class _ResultLine(msgspec.Struct):
    """The fields that distinguish a line of results from a request."""

    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()


_result_decoder = msgspec.json.Decoder(_ResultLine)


def check_is_iterable_of_requests(requests: object) -> None:
    """Check that an argument can be an iterable of requests.

    Raises:
        InvalidInputError: the argument cannot be iterated over, or is text, a path, or a single
            mapping or request.
    """
    match requests:
        case bytes() | str():
            advice = _OPEN_A_FILE
        case _ if hasattr(requests, "__fspath__"):
            advice = _OPEN_A_FILE
        case Mapping() if "requests" in requests:
            advice = "pass the list under its key 'requests'"
        case Mapping() | BatchRequest():
            advice = "put a single request in a list"
        case Iterable():
            return
        case _:
            advice = "pass a list"
    kind = type(requests).__name__
    raise InvalidInputError(f"requests must be an iterable of requests, not a {kind}: {advice}")


def beginning_of(request: object, encoded: bytes | None) -> bytes:
    """Return the bytes to compare: the first of the JSON, or of a line that is not valid UTF-8."""
    beginning = request if encoded is None and isinstance(request, bytes) else encoded
    return (beginning or b"")[:_COMPARED]


def describe_file(beginning: bytes) -> str | None:
    """Describe the format of a file by its first bytes; return None if it is not recognised."""
    for signature, description in _FILE_SIGNATURES:
        if beginning.startswith(signature):
            return f"this looks like {description}"
    return None


def describe_input(beginning: bytes, encoded: bytes | None) -> str | None:
    """Describe an input by its first request, which is invalid; return None if not recognised.

    `beginning` is the result of `beginning_of`. `encoded` is the whole request as JSON, or None if
    it could not be encoded.
    """
    for pattern, description in _JSON_SIGNATURES:
        if pattern.match(beginning):
            return f"this looks like {description}"
    try:
        line = _result_decoder.decode(encoded or b"")
    except UNDECODABLE:
        return describe_file(beginning)
    if line.result and not line.params:
        return "this looks like a file of results: pass the requests, not the results"
    return None
