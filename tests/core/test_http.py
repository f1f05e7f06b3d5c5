"""Tests of `http`: requests, their bodies, and header fields."""

from __future__ import annotations

from typing import Any, cast

import pytest

from batches_core import LocalProtocolError, RawHeaders, Request
from batches_core.http import BytesBody, fold_headers
from batches_core.urls import origin
from tests.support.ids import readable
from tests.support.playbook import BASE

# --- header fields -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "folded"),
    [
        ([], {}),
        ([("Request-ID", "r")], {"request-id": "r"}),
        ([(b"Retry-After", b"5")], {"retry-after": "5"}),
        ([("a", "1"), ("A", "2"), ("b", "3"), ("a", "4")], {"a": "1, 2, 4", "b": "3"}),
        ([(b"X", b"caf\xe9"), (b"x", b"2")], {"x": "café, 2"}),
    ],
    ids=["no headers", "str", "bytes", "repeated names", "not ASCII"],
)
def test_headers_of_any_kind_and_case_are_folded(pairs: RawHeaders, folded: dict[str, str]) -> None:
    assert fold_headers(pairs) == folded
    iterator = cast("RawHeaders", iter(list(pairs)))
    assert fold_headers(iterator) == folded


def test_a_mapping_of_headers_is_folded() -> None:
    assert fold_headers({"Retry-After": "5"}) == {"retry-after": "5"}


@pytest.mark.parametrize(
    "headers", [["a"], [("a",)], [("a", 1, 2)], [(1, "a")], 7, None], ids=readable
)
def test_headers_that_are_not_pairs_are_a_local_protocol_error(headers: Any) -> None:
    with pytest.raises(LocalProtocolError, match="pairs of a name and a value"):
        fold_headers(headers)


def test_folded_headers_are_returned_unchanged() -> None:
    folded = fold_headers([(b"A", b"1"), (b"a", b"2")])
    assert folded == {"a": "1, 2"}
    assert fold_headers(folded) is folded


# --- requests and bodies -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "target", "expected"),
    [
        ("https://h.test", "/", ("https", "h.test", 443)),
        ("http://h.test/", "/", ("http", "h.test", 80)),
        ("https://h.test:8443/v1/x?a=b&c", "/v1/x?a=b&c", ("https", "h.test", 8443)),
        ("HTTPS://H.Test?a", "/?a", ("https", "h.test", 443)),
        ("http://[::1]:99/a%2Fb", "/a%2Fb", ("http", "::1", 99)),
    ],
    ids=readable,
)
def test_the_target_and_origin_of_a_request_come_from_its_url(
    url: str, target: str, expected: tuple[str, str, int]
) -> None:
    request = Request(method="GET", url=url, headers=())
    assert request.target == target
    assert request.origin == origin(url) == expected


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://a.test/x", "a.test"),
        ("https://a.test:443/x", "a.test"),
        ("http://a.test:443/x", "a.test:443"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[::1]", "[::1]"),
    ],
)
def test_the_host_header_names_a_port_that_is_not_the_default(url: str, authority: str) -> None:
    assert Request(method="GET", url=url, headers=()).authority == authority


def test_the_repr_of_a_request_hides_credentials_and_body() -> None:
    request = Request(
        method="POST",
        url=BASE,
        headers=(("x-api-key", "secret"), ("authorization", "Bearer secret"), ("accept", "*/*")),
        body=BytesBody((b"private",)),
    )
    assert repr(request) == (
        f"Request(POST {BASE}, headers=[('x-api-key', '[hidden]'), ('authorization', '[hidden]'), "
        "('accept', '*/*')], body=<BytesBody of 7 bytes>)"
    )


def test_a_bytes_body_has_a_length_and_can_be_iterated_again() -> None:
    body = BytesBody((b"ab", b"", b"cde"))
    assert body.content_length == 5
    assert list(body) == list(body) == [b"ab", b"", b"cde"]
