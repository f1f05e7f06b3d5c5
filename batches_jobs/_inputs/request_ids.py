"""Decide which custom_id each request is sent with: the caller's own, or a wire id.

With ``ids="keep"`` requests are sent byte for byte. A custom_id must be valid and unique in its
chunk, because the service requires that. It need not be unique in the whole job: a row is
identified by its number, and to compare all ids would take memory for every row.

With ``ids="map"`` every request is sent with a `wire_id`, which leads back to its row. Its own
custom_id may be missing, too long, a duplicate, or any JSON value.
"""

from __future__ import annotations

import dataclasses

import msgspec

from batches_core import InvalidInputError
from batches_core.jobs import Ids, job_tag, wire_id

#: Every exception that a decoder raises for an invalid line.
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _OwnId(msgspec.Struct):
    custom_id: msgspec.Raw = msgspec.Raw()


class _TextId(msgspec.Struct, gc=False):
    custom_id: str


_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_id_decoder = msgspec.json.Decoder(_OwnId)
_text_id_decoder = msgspec.json.Decoder(_TextId)
_text_decoder = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder()


class RequestIds:
    """Map between the custom_ids of a job's requests and those that are sent.

    Raises:
        InvalidInputError: `ids` is neither ``"keep"`` nor ``"map"``.
    """

    def __init__(self, ids: Ids, job_id: str) -> None:
        if ids not in {"keep", "map"}:
            raise InvalidInputError(f"ids is {ids!r}: pass 'keep' or 'map'")
        self.is_mapped = ids == "map"
        self._tag = job_tag(job_id)

    def as_sent(self, line: bytes, row: int) -> bytes:
        """Return a request as it is sent. A line that is not a JSON object remains unchanged."""
        if not self.is_mapped:
            return line
        try:
            fields = _fields_decoder.decode(line)
        except _UNDECODABLE:
            return line
        mapped = {"custom_id": msgspec.Raw(b'"%b"' % self.sent_id(line, row).encode())}
        fields.pop("custom_id", None)
        return _encoder.encode(mapped | fields)

    def sent_id(self, line: bytes, row: int) -> str:
        """Return the custom_id that a valid request is sent with."""
        return wire_id(self._tag, row) if self.is_mapped else own_id(line) or ""

    def explain(self, error: InvalidInputError) -> InvalidInputError:
        """Add to each problem of a custom_id that ``ids="map"`` avoids it."""
        if self.is_mapped:
            return error
        problems = [
            dataclasses.replace(each, message=f"{each.message}; correct it, or pass ids='map'")
            if each.field == "custom_id"
            else each
            for each in error.problems
        ]
        return InvalidInputError(*problems, omitted=error.omitted)


def own_id(line: bytes) -> str | None:
    """Return the caller's custom_id of a request; None if it has none.

    A value that is not a str is returned as JSON.
    """
    try:
        return _text_id_decoder.decode(line).custom_id
    except _UNDECODABLE:
        pass  # nearly all ids are text; what this one is takes longer to find out
    try:
        raw = bytes(_id_decoder.decode(line).custom_id)
    except _UNDECODABLE:
        return None
    if raw in {b"", b"null"}:
        return None
    try:
        return _text_decoder.decode(raw)
    except _UNDECODABLE:
        return raw.decode(errors="replace")
