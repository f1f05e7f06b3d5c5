"""Tests of `redaction`: credentials are removed from reprs and from received text."""

from __future__ import annotations

import pytest

from batches_core.lowlevel import Secret, redact_text
from batches_core.redaction import hide, redact, redact_headers
from tests.support.playbook import KEY

KEY_HEADER = ("x-api-key", KEY)
TOKEN_HEADER = ("authorization", f"Bearer {KEY}")


def test_the_repr_of_a_secret_hides_it() -> None:
    assert repr(Secret(KEY)) == "'[hidden]'"
    assert Secret(KEY) == KEY


def test_a_hidden_credential_equals_the_original_and_none_stays_none() -> None:
    assert hide(KEY) == KEY
    assert KEY not in repr(hide(KEY))
    assert hide(None) is None


def test_redacted_headers_hide_only_credentials() -> None:
    headers = [KEY_HEADER, TOKEN_HEADER, ("accept", "*/*")]
    assert redact_headers(headers) == [
        ("x-api-key", "[hidden]"),
        ("authorization", "[hidden]"),
        ("accept", "*/*"),
    ]


@pytest.mark.parametrize("header", [KEY_HEADER, TOKEN_HEADER], ids=["key", "token"])
def test_each_occurrence_of_a_credential_is_redacted(header: tuple[str, str]) -> None:
    received = f"key {KEY}, again {KEY}"
    assert redact([header], received.encode()) == b"key [hidden], again [hidden]"
    assert redact_text([header], received) == "key [hidden], again [hidden]"


def test_the_value_of_another_header_is_not_redacted() -> None:
    assert redact_text([("accept", "application/json")], "application/json") == "application/json"


@pytest.mark.parametrize(("credential", "is_redacted"), [("sk-test", False), ("sk-test1", True)])
def test_a_credential_of_fewer_than_8_characters_is_not_redacted(
    credential: str, *, is_redacted: bool
) -> None:
    redacted = redact_text([("x-api-key", credential)], f"{credential} is invalid")
    assert (credential not in redacted) == is_redacted


def test_a_text_with_a_lone_surrogate_can_be_redacted() -> None:
    assert redact_text([KEY_HEADER], f"\ud83d{KEY}") == "\ud83d[hidden]"


@pytest.mark.parametrize("end", ["", "…"])
def test_a_credential_that_is_cut_off_at_the_end_of_a_text_is_redacted(end: str) -> None:
    for length in range(8, len(KEY)):
        assert redact_text([KEY_HEADER], f"key {KEY[:length]}{end}") == f"key [hidden]{end}"
    assert redact_text([KEY_HEADER], f"key {KEY[:7]}{end}") == f"key {KEY[:7]}{end}"
