"""Tests of `urls`: which URLs can be used, and how they are built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import DeletedMessageBatch, InvalidInputError, RemoteProtocolError
from batches_core.urls import check_base_url, origin, path_segment, resolve, with_query
from tests.support.ids import readable
from tests.support.playbook import BASE

#: URLs that are refused whether the caller or the service names them, with the reason.
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


# --- base URLs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
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
def test_a_base_url_loses_the_slashes_at_its_end(url: str, expected: str) -> None:
    assert check_base_url(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *UNUSABLE,
        ("//api.example.test", "does not begin with https"),
        (BASE + "?a=b", "query or a fragment"),
        (BASE + "/?", "query or a fragment"),
        (BASE + "/#top", "query or a fragment"),
        (BASE + "/v1", "leave it out"),
        (BASE + "/x/v1/", "leave it out"),
    ],
    ids=readable,
)
def test_an_unusable_base_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^base_url cannot be used: .*{reason}"):
        check_base_url(url)


@pytest.mark.parametrize("url", [None, b"https://api.example.test", 5])
def test_a_base_url_that_is_not_a_str_is_refused(url: object) -> None:
    with pytest.raises(InvalidInputError, match="base_url must be a str such as"):
        check_base_url(url)


@pytest.mark.parametrize("mark", ["", "/", "?", "#"])
def test_a_base_url_with_a_password_is_refused_without_showing_it(mark: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_base_url(f"https://me:hidden{mark}too@api.example.test")
    assert "hidden" not in str(caught.value)
    assert "too" not in str(caught.value)


# --- links of the service ----------------------------------------------------------------


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
def test_a_link_is_resolved_to_an_absolute_url(base: str, link: str, url: str) -> None:
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
    ids=readable,
)
def test_a_link_that_cannot_be_fetched_is_refused(link: str) -> None:
    with pytest.raises(RemoteProtocolError, match="URL that cannot be fetched: ") as caught:
        resolve(BASE, link)
    assert len(str(caught.value).splitlines()) == 1


@given(st.text() | st.text(alphabet="htps:/[]@.?#\\1a %").map("https://".__add__))
def test_any_link_resolves_to_a_url_with_an_origin_or_a_documented_error(link: str) -> None:
    try:
        url = resolve(BASE, link)
    except RemoteProtocolError:
        return
    scheme, host, port = origin(url)
    assert scheme in {"http", "https"}
    assert host
    assert 0 < port < 65536


# --- queries and path segments -----------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "url"),
    [({}, BASE), ({"limit": "5"}, BASE + "?limit=5"), ({"a": "b&c", "d": "é"}, BASE + "?a=b%26c")],
    ids=readable,
)
def test_a_query_is_encoded_and_an_empty_one_omitted(query: dict[str, str], url: str) -> None:
    assert with_query(BASE, query).startswith(url)
    assert ("?" in with_query(BASE, query)) == bool(query)


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
    ids=readable,
)
def test_a_path_segment_is_percent_encoded(value: str, segment: str) -> None:
    assert path_segment("batch_id", value) == segment


@pytest.mark.parametrize("value", [None, 5, b"msgbatch_1"], ids=["None", "int", "bytes"])
def test_a_path_segment_that_is_not_a_str_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^batch_id must be a str, not \w+$"):
        path_segment("batch_id", value)


def test_an_object_with_an_id_is_refused_as_a_path_segment_with_a_hint() -> None:
    with pytest.raises(InvalidInputError, match=r"not DeletedMessageBatch; pass its \.id"):
        path_segment("batch_id", DeletedMessageBatch(id="b"))


@pytest.mark.parametrize(
    "value", ["", ".", "..", "x" * 257], ids=["empty", "one dot", "two dots", "257 characters"]
)
def test_a_path_segment_that_cannot_be_an_id_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^batch_id must be an id from the service"):
        path_segment("batch_id", value)


def test_a_path_segment_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^batch_id contains characters that a URL"):
        path_segment("batch_id", "a\ud800")
