"""Where results may be fetched from, and what is sent there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batches_core import (
    APIStatusError,
    InvalidInputError,
    MessageBatch,
    RemoteProtocolError,
    Request,
    ResultsInterrupted,
    ResultsReceived,
    UntrustedHostError,
)
from tests.support.playbook import BASE, KEY, Playbook, api, batch_json, result_line

CREDENTIALS = ({"api_key": KEY}, {"api_key": None, "auth_token": KEY})
FOREIGN = [
    ("https://files.example.test/r", "files.example.test"),
    ("https://api.example.test.evil.test/r", "api.example.test.evil.test"),
    ("https://example.test/r", "example.test"),
    ("https://api.example.test./r", "api.example.test."),
    ("https://api.example.test:8443/r", "api.example.test:8443"),
    ("https://[2001:db8::1]/r", "[2001:db8::1]"),
    ("http://127.0.0.1:8000/r", "127.0.0.1:8000"),
]
REDIRECTS = [301, 302, 303, 307, 308]


def start(results_url: str, **settings: Any) -> Playbook:
    batch = msgspec.convert(batch_json(status="ended", results_url=results_url), MessageBatch)
    return Playbook(api(**settings).results_stream(batch))


def carries_no_credential(request: Request) -> bool:
    names = {"x-api-key", "authorization"} & dict(request.headers).keys()
    return not names and all(KEY not in value for _, value in request.headers)


@pytest.mark.parametrize(("url", "host"), FOREIGN)
def test_a_foreign_host_is_refused_by_name(url: str, host: str) -> None:
    with pytest.raises(
        UntrustedHostError, match=r"nothing was sent there.*trusted_hosts="
    ) as caught:
        start(url).next()
    assert caught.value.host == host
    assert repr(host) in str(caught.value)


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize(("url", "host"), FOREIGN)
def test_a_trusted_host_gets_the_request_but_no_credential(
    url: str, host: str, credential: dict[str, Any]
) -> None:
    book = start(url, trusted_hosts=[host], **credential)
    request = book.expect_request("GET", "/r")
    assert request.url == url
    assert carries_no_credential(request)


def test_a_name_is_trusted_on_every_port_and_in_any_case() -> None:
    for port in ("", ":8443"):
        book = start(f"https://files.example.test{port}/r", trusted_hosts=["Files.Example.Test"])
        assert carries_no_credential(book.expect_request("GET", "/r"))
    with pytest.raises(UntrustedHostError):
        start("https://files.example.test/r", trusted_hosts=["files.example.test:8443"]).next()


@pytest.mark.parametrize(
    ("trusted", "url"),
    [
        ("files.example.test:443", "https://files.example.test/r"),
        ("[2001:db8::1]", "https://[2001:db8::1]:8443/r"),
        ("[2001:DB8::1]:8443", "https://[2001:db8::1]:8443/r"),
    ],
)
def test_hosts_are_compared_as_urls_have_them(trusted: str, url: str) -> None:
    assert carries_no_credential(start(url, trusted_hosts=[trusted]).expect_request("GET", "/r"))


def test_plain_http_to_another_machine_has_to_be_asked_for() -> None:
    url = "http://files.example.test/r"
    with pytest.raises(UntrustedHostError, match=r"plain http.*allow_http=True") as caught:
        start(url, trusted_hosts=["files.example.test"]).next()
    assert caught.value.host == "files.example.test"
    book = start(url, trusted_hosts=["files.example.test"], allow_http=True)
    assert carries_no_credential(book.expect_request("GET", "/r"))


def test_the_apis_own_name_over_plain_http_is_another_place() -> None:
    with pytest.raises(UntrustedHostError):
        start("http://api.example.test/r").next()


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.test",
        "http://10.0.0.1",
        "http://localhost.evil.test",
        "http://a.localhost",
    ],
)
def test_a_credential_is_not_sent_over_plain_http_unasked(base_url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"allow_http=True"):
        api(base_url=base_url)
    assert api(base_url=base_url, allow_http=True).base_url == base_url


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.8.7", "[::1]"])
def test_this_machine_may_be_spoken_to_in_the_clear(host: str) -> None:
    api(base_url=f"http://{host}:8000")


@pytest.mark.parametrize(
    "hosts", ["files.example.test", [""], ["https://x.test"], ["x.test/"], ["me@x.test"], [5]]
)
def test_what_is_trusted_are_names(hosts: Any) -> None:
    with pytest.raises(InvalidInputError, match="trusted_hosts"):
        api(trusted_hosts=hosts)


# --- redirects ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("location", ["/elsewhere?q=1", f"{BASE}/elsewhere?q=1", "elsewhere?q=1"])
def test_a_redirect_on_the_apis_own_origin_is_followed(status: int, location: str) -> None:
    book = start("/r")
    book.expect_request("GET", "/r")
    book.respond(b"moved", status, [("location", location)])
    request = book.expect_request("GET", "/elsewhere?q=1")
    assert dict(request.headers)["x-api-key"] == KEY
    book.respond(result_line("a") + result_line("b"))
    assert len(book.expect(ResultsReceived).items) == 2
    book.expect_done()


def test_a_redirect_to_a_trusted_host_is_followed_without_credentials() -> None:
    book = start("/r", trusted_hosts=["files.example.test"])
    book.expect_request("GET", "/r")
    book.respond(b"", 302, [("location", "https://files.example.test/a/b?signature=s")])
    assert carries_no_credential(book.expect_request("GET", "/a/b?signature=s"))
    book.respond(b"", 302, [("location", "c")])
    request = book.expect_request("GET", "/a/c")
    assert request.url == "https://files.example.test/a/c"
    assert carries_no_credential(request)


@pytest.mark.parametrize(("url", "host"), FOREIGN)
def test_a_redirect_to_any_other_host_is_refused(url: str, host: str) -> None:
    book = start("/r")
    book.expect_request("GET", "/r")
    book.respond(b"", 307, [("location", url)])
    with pytest.raises(UntrustedHostError) as caught:
        book.next()
    assert caught.value.host == host


def test_redirects_without_end_are_a_fault_of_the_server() -> None:
    book = start("/r")
    for _ in range(6):
        book.expect_request("GET", "/r")
        book.respond(b"", 307, [("location", "/r")])
    event = book.expect(ResultsInterrupted)
    assert isinstance(event.error, RemoteProtocolError)
    assert "more than 5 redirects" in str(event.error)


@pytest.mark.parametrize("location", ["ftp://x.test/r", "https://[/", "https://me:pw@x.test/r"])
def test_a_redirect_to_what_is_no_url_is_a_fault_of_the_server(location: str) -> None:
    book = start("/r")
    book.expect_request("GET", "/r")
    book.respond(b"", 307, [("location", location)])
    error = book.expect(ResultsInterrupted).error
    assert isinstance(error, RemoteProtocolError)
    assert "pw" not in str(error)


@pytest.mark.parametrize(("status", "headers"), [(307, []), (304, [("location", "/r")])])
def test_what_only_looks_like_a_redirect_is_an_answer(
    status: int, headers: list[tuple[str, str]]
) -> None:
    book = start("/r")
    book.expect_request("GET", "/r")
    book.respond(b"", status, headers)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert caught.value.status == status
