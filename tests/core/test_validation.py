"""Tests of `validation`: which arguments of the caller are accepted.

`test_api` checks callbacks and times, through the methods that accept them.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import InvalidInputError
from batches_core.validation import check_header_value


@pytest.mark.parametrize("value", ["k", "sk-1", "two words", "~!"])
def test_a_valid_header_value_is_returned_unchanged(value: str) -> None:
    assert check_header_value("api_key", value) == value


@pytest.mark.parametrize(
    "value",
    [
        "secret\n",
        "sec\r\nret: 1",
        "sec\0ret",
        "sec\x7fret",
        "sec\tret",
        " secret",
        "secret ",
        "secret\t",
        "\xa0secret",
        "secret\x85",
        "secr\xe9t",
        "secr€t",
        "secret\ud800",
    ],
)
def test_an_invalid_header_value_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(InvalidInputError, match="api_key contains a character") as caught:
        check_header_value("api_key", value)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", ["", None, b"secret", 5])
def test_an_empty_or_non_str_header_value_is_refused_without_showing_it(value: object) -> None:
    with pytest.raises(InvalidInputError, match="must be a non-empty str") as caught:
        check_header_value("api_key", value)
    assert "secret" not in str(caught.value)


@given(st.text())
def test_an_accepted_header_value_is_sent_unchanged(value: str) -> None:
    try:
        accepted = check_header_value("x", value)
    except InvalidInputError:
        return
    # Peers strip white space around a value, and a line break would end it.
    assert accepted.encode("latin-1").strip().decode("latin-1") == value
    assert len(value.splitlines()) == 1
