"""Requests as values, headers, and URLs: what can be sent, and where it would go."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    DeletedMessageBatch,
    InvalidInputError,
    LocalProtocolError,
    RawHeaders,
    RemoteProtocolError,
    Request,
)
from batches_core.http import BytesBody, fold_headers
from batches_core.urls import check_base_url, origin, path_segment, resolve, with_query
from batches_core.validation import check_header_value

BASE = "https://api.example.test"

#: What no URL may be, whoever sent it.
UNUSABLE = [
    ("", "does not begin with https"),
    ("api.example.test", "does not begin with https"),
    ("ftp://api.example.test", "does not begin with https"),
    ("file:///etc/passwd", "does not begin with https"),
    ("javascript:alert(1)", "does not begin with https"),
    ("https:api.example.test", "does not begin with https"),
    ("https://", "has no host"),
    ("https:///path", "has no host"),
    ("https://?", "has no host"),
    ("https://:443", "has no host"),
    ("https://api.example.test:0", "malformed"),
    ("https://api.example.test:65536", "ort"),
    ("https://api.example.test:x", "ort"),
    ("https://api.example.test:-1", "ort"),
    ("https://[::1", "malformed"),
    ("https://[::z]", "malformed"),
    ("https://1.2.3.999", "malformed"),
    ("https://a..b", "malformed"),
    ("https://" + "a" * 64 + ".test", "malformed"),
    ("https://api.example.test/" + "a" * 17_000, "more than 16,384 characters"),
    ("https://me@api.example.test", "user name or password"),
    ("https://me:pw@api.example.test", "user name or password"),
    ("https://@api.example.test", "user name or password"),
    ("https://api.example.test\\@evil.test", "user name or password"),
    ("https://api.example.test /", "percent-encoded"),
    (" https://api.example.test", "percent-encoded"),
    ("https://api.example.test/a b", "percent-encoded"),
    ("https://api.example.test/\n", "percent-encoded"),
    ("https://api.example.test\0", "percent-encoded"),
    ("https://api.example.test/ä", "percent-encoded"),
    ("https://\uff41pi.example.test", "percent-encoded"),
]


@pytest.mark.parametrize(
    ("pairs", "folded"),
    [
        ([], {}),
        ([("Request-ID", "r")], {"request-id": "r"}),
        ([(b"Retry-After", b"5")], {"retry-after": "5"}),
        ([("a", "1"), ("A", "2"), ("b", "3"), ("a", "4")], {"a": "1, 2, 4", "b": "3"}),
        ([(b"X", b"caf\xe9"), (b"x", b"2")], {"x": "café, 2"}),
    ],
)
def test_headers_are_folded_whatever_their_kind_and_case(
    pairs: RawHeaders, folded: dict[str, str]
) -> None:
    assert fold_headers(pairs) == folded
    once = cast("RawHeaders", iter(list(pairs)))
    assert fold_headers(once) == folded


def test_a_mapping_of_headers_will_do_and_what_is_no_headers_is_told() -> None:
    assert fold_headers({"Retry-After": "5"}) == {"retry-after": "5"}
    wrong: list[Any] = [["a"], [("a",)], [("a", 1, 2)], [(1, "a")], 7, None]
    for headers in wrong:
        with pytest.raises(LocalProtocolError, match="pairs of a name and a value"):
            fold_headers(headers)


class TestHeaderValues:
    @pytest.mark.parametrize("value", ["k", "sk-1", "two words", "~!"])
    def test_what_a_header_can_carry_is_passed_as_it_is(self, value: str) -> None:
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
    def test_what_no_header_can_carry_is_refused_and_not_shown(self, value: str) -> None:
        with pytest.raises(InvalidInputError, match="api_key contains a character") as caught:
            check_header_value("api_key", value)
        assert "sec" not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("value", ["", None, b"secret", 5])
    def test_what_is_no_text_is_refused_and_not_shown(self, value: object) -> None:
        with pytest.raises(InvalidInputError, match="must be a non-empty str") as caught:
            check_header_value("api_key", value)
        assert "secret" not in str(caught.value)

    @given(st.text())
    def test_what_passes_arrives_as_it_was_sent(self, value: str) -> None:
        try:
            passed = check_header_value("x", value)
        except InvalidInputError:
            return
        assert passed.encode("latin-1").strip().decode("latin-1") == value
        assert len(value.splitlines()) == 1


class TestBaseURL:
    @pytest.mark.parametrize(
        ("url", "clean"),
        [
            (BASE, BASE),
            (BASE + "/", BASE),
            (BASE + "///", BASE),
            (BASE + "/proxy/", BASE + "/proxy"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
            ("HTTPS://API.Example.TEST", "HTTPS://API.Example.TEST"),
        ],
    )
    def test_of_http_is_taken_without_a_slash_at_its_end(self, url: str, clean: str) -> None:
        assert check_base_url(url) == clean

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            *UNUSABLE,
            ("//api.example.test", "does not begin with https"),
            (BASE + "?a=b", "query or a fragment"),
            (BASE + "/?", "query or a fragment"),
            (BASE + "/#top", "query or a fragment"),
            (BASE + "/v1", "leave it out"),
            (BASE + "/x/v1/", "leave it out"),
        ],
    )
    def test_that_cannot_be_used_is_refused_with_the_reason(self, url: str, why: str) -> None:
        with pytest.raises(InvalidInputError, match=f"^base_url cannot be used: .*{why}"):
            check_base_url(url)

    @pytest.mark.parametrize("url", [None, b"https://api.example.test", 5])
    def test_that_is_no_str_is_refused(self, url: object) -> None:
        with pytest.raises(InvalidInputError, match="base_url must be a str such as"):
            check_base_url(url)

    @pytest.mark.parametrize("mark", ["", "/", "?", "#"])
    def test_with_a_password_is_refused_without_showing_any_of_it(self, mark: str) -> None:
        with pytest.raises(InvalidInputError) as caught:
            check_base_url(f"https://me:hidden{mark}too@api.example.test")
        assert "hidden" not in str(caught.value)
        assert "too" not in str(caught.value)


class TestResolve:
    @pytest.mark.parametrize(
        ("base", "link", "url"),
        [
            (BASE, "/v1/x", BASE + "/v1/x"),
            (BASE, "/", BASE + "/"),
            (BASE, "/v1/x?a=b#top", BASE + "/v1/x?a=b"),
            (BASE + "/proxy", "/v1/x", BASE + "/proxy/v1/x"),
            (BASE, BASE + "/v1/x", BASE + "/v1/x"),
            (BASE + "/proxy", BASE + "/v1/x", BASE + "/v1/x"),
            (BASE, "https://files.example.test/x?sig=1", "https://files.example.test/x?sig=1"),
            (BASE, "http://[::1]:99/x", "http://[::1]:99/x"),
        ],
    )
    def test_makes_a_link_absolute(self, base: str, link: str, url: str) -> None:
        assert resolve(base, link) == url

    @pytest.mark.parametrize(
        "link",
        [
            *(link for link, _ in UNUSABLE),
            "//evil.test/x",
            "///evil.test/x",
            "v1/x",
            "?a=b",
            "#x",
            "/a b",
            "/a\nb",
            "https://[::1].evil.test/x",
            "https://evil.test[::1]/x",
        ],
    )
    def test_refuses_what_cannot_be_fetched(self, link: str) -> None:
        with pytest.raises(RemoteProtocolError, match="URL that cannot be fetched: ") as caught:
            resolve(BASE, link)
        assert len(str(caught.value).splitlines()) == 1

    @given(st.text() | st.text(alphabet="htps:/[]@.?#\\1a %").map("https://".__add__))
    def test_gives_a_url_with_an_origin_or_a_documented_error(self, link: str) -> None:
        try:
            url = resolve(BASE, link)
        except RemoteProtocolError:
            return
        scheme, host, port = origin(url)
        assert scheme in {"http", "https"}
        assert host
        assert 0 < port < 65536


@pytest.mark.parametrize(
    ("url", "target", "where"),
    [
        ("https://h.test", "/", ("https", "h.test", 443)),
        ("http://h.test/", "/", ("http", "h.test", 80)),
        ("https://h.test:8443/v1/x?a=b&c", "/v1/x?a=b&c", ("https", "h.test", 8443)),
        ("HTTPS://H.Test?a", "/?a", ("https", "h.test", 443)),
        ("http://[::1]:99/a%2Fb", "/a%2Fb", ("http", "::1", 99)),
    ],
)
def test_a_request_tells_its_target_and_origin(
    url: str, target: str, where: tuple[str, str, int]
) -> None:
    request = Request(method="GET", url=url, headers=())
    assert request.target == target
    assert request.origin == origin(url) == where


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


def test_a_body_is_measured_and_can_be_sent_again() -> None:
    body = BytesBody((b"ab", b"", b"cde"))
    assert body.content_length == 5
    assert list(body) == list(body) == [b"ab", b"", b"cde"]


@pytest.mark.parametrize(
    ("query", "url"),
    [({}, BASE), ({"limit": "5"}, BASE + "?limit=5"), ({"a": "b&c", "d": "é"}, BASE + "?a=b%26c")],
)
def test_a_query_is_encoded_or_left_out(query: dict[str, str], url: str) -> None:
    assert with_query(BASE, query).startswith(url)
    assert ("?" in with_query(BASE, query)) == bool(query)


class TestPathSegment:
    @pytest.mark.parametrize(
        ("value", "segment"),
        [
            ("msgbatch_01-x", "msgbatch_01-x"),
            ("a/b", "a%2Fb"),
            ("../x", "..%2Fx"),
            ("...", "..."),
            ("%2e%2e", "%252e%252e"),
            ("a?b#c", "a%3Fb%23c"),
            ("a b\r\n", "a%20b%0D%0A"),
            ("é", "%C3%A9"),
        ],
    )
    def test_is_percent_encoded(self, value: str, segment: str) -> None:
        assert path_segment("batch_id", value) == segment

    @pytest.mark.parametrize("value", [None, 5, b"msgbatch_1"])
    def test_that_is_no_text_is_refused(self, value: object) -> None:
        with pytest.raises(InvalidInputError, match=r"^batch_id must be a str, not \w+$"):
            path_segment("batch_id", value)

    def test_that_is_a_whole_batch_is_refused_with_a_hint(self) -> None:
        with pytest.raises(InvalidInputError, match=r"not DeletedMessageBatch; pass its \.id"):
            path_segment("batch_id", DeletedMessageBatch(id="b"))

    @pytest.mark.parametrize("value", ["", ".", "..", "x" * 257])
    def test_that_would_lead_elsewhere_is_refused(self, value: object) -> None:
        with pytest.raises(InvalidInputError, match=r"^batch_id must be an id from the service"):
            path_segment("batch_id", value)

    def test_with_a_lone_surrogate_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match=r"^batch_id contains characters that a URL"):
            path_segment("batch_id", "a\ud800")


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
def test_the_host_header_names_the_port_where_it_is_not_the_schemes(
    url: str, authority: str
) -> None:
    assert Request(method="GET", url=url, headers=()).authority == authority


def test_folded_headers_are_not_folded_again() -> None:
    folded = fold_headers([(b"A", b"1"), (b"a", b"2")])
    assert folded == {"a": "1, 2"}
    assert fold_headers(folded) is folded
