"""Decode the body of a create, and check what the service checks before it accepts a create.

The service checks the params of each request later; see the module `params`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from batches_core.decoding import UNDECODABLE
from batches_core.request_checker import MAX_REQUESTS

from .refusals import bad_request

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]*")
_CUSTOM_ID_LENGTH = 64
_FIELDS = ("custom_id", "params")


class _InvalidRequestError(Exception):
    """One request of the body is invalid; the text continues the path ``requests.N``."""


def read_requests(body: bytes) -> list[tuple[str, msgspec.Raw]]:
    """Decode the body of a create and return each request's custom_id and encoded params.

    A create with a duplicate custom_id is refused. Whether the service refuses it, or reports the
    duplicate later, is not documented.

    Raises:
        RefusedError: the body, or one of its requests, is invalid (400).
    """
    try:
        fields = _decode_object(body)
    except UNDECODABLE as error:
        raise bad_request(f"The request body is not a valid JSON object: {error}") from None
    if "requests" not in fields:
        raise bad_request("requests: Field required")
    try:
        encoded = msgspec.json.decode(fields["requests"], type=list[msgspec.Raw])
    except UNDECODABLE:
        raise bad_request("requests: Input should be a valid list") from None
    if not encoded:
        raise bad_request("requests: List should have at least 1 item after validation, not 0")
    if len(encoded) > MAX_REQUESTS:
        raise bad_request(
            f"requests: List should have at most {MAX_REQUESTS} items after validation, not "
            f"{len(encoded)}"
        )
    requests: dict[str, msgspec.Raw] = {}
    for index, raw in enumerate(encoded):
        try:
            custom_id, params = _read_request(raw)
        except _InvalidRequestError as error:
            raise bad_request(f"requests.{index}{error}") from None
        if custom_id in requests:
            raise bad_request(f"requests.{index}.custom_id: `{custom_id}` is used twice")
        requests[custom_id] = params
    return list(requests.items())


def _decode_object(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])


def _read_request(raw: msgspec.Raw) -> tuple[str, msgspec.Raw]:
    try:
        fields = _decode_object(raw)
    except UNDECODABLE:
        raise _InvalidRequestError(": Input should be an object") from None
    for name in _FIELDS:
        if name not in fields:
            raise _InvalidRequestError(f".{name}: Field required")
    for name in fields:
        if name not in _FIELDS:
            raise _InvalidRequestError(f".{name}: Extra inputs are not permitted")
    custom_id = _read_custom_id(fields["custom_id"])
    try:
        # Decode every value now, so that decoding them again when the batch ends cannot fail.
        msgspec.json.decode(fields["params"], type=dict[str, Any])
    except UNDECODABLE:
        raise _InvalidRequestError(".params: Input should be an object") from None
    return custom_id, fields["params"]


def _read_custom_id(raw: msgspec.Raw) -> str:
    try:
        custom_id = msgspec.json.decode(raw, type=str)
    except UNDECODABLE:
        raise _InvalidRequestError(".custom_id: Input should be a valid string") from None
    if not custom_id:
        raise _InvalidRequestError(".custom_id: String should have at least 1 character")
    if len(custom_id) > _CUSTOM_ID_LENGTH:
        message = f".custom_id: String should have at most {_CUSTOM_ID_LENGTH} characters"
        raise _InvalidRequestError(message)
    if not _CUSTOM_ID.fullmatch(custom_id):
        message = ".custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
        raise _InvalidRequestError(message)
    return custom_id
