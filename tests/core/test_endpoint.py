"""Tests of `endpoint`: addresses, headers and credentials of requests, and trusted hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from batches_core import (
    BASE_URL,
    VERSION,
    BatchesAPI,
    InvalidInputError,
    Operation,
    RemoteProtocolError,
    Request,
    UntrustedHostError,
)
from tests.support.ids import readable
from tests.support.playbook import BASE, KEY, Playbook, api
from tests.support.results_playbook import ended_batch

BATCHES = "/v1/messages/batches"
REQUEST: dict[str, Any] = {"custom_id": "a", "params": {"x": 1}}
ENCODED_REQUEST = b'{"requests":[{"custom_id":"a","params":{"x":1}}]}'
#: Each operation, with the method and the path of its own first request.
OPERATIONS: dict[str, tuple[Callable[[BatchesAPI], Operation[Any]], str, str]] = {
    "create": (lambda a: a.create([REQUEST]), "POST", BATCHES),
    "get": (lambda a: a.get("msgbatch_1"), "GET", f"{BATCHES}/msgbatch_1"),
    "cancel": (lambda a: a.cancel("msgbatch_1"), "POST", f"{BATCHES}/msgbatch_1/cancel"),
    "delete": (lambda a: a.delete("msgbatch_1"), "DELETE", f"{BATCHES}/msgbatch_1"),
    "list": (lambda a: a.list(), "GET", BATCHES),
    "list_all": (lambda a: a.list_all(), "GET", BATCHES),
    "wait_for": (lambda a: a.wait_for("msgbatch_1"), "GET", f"{BATCHES}/msgbatch_1"),
    "results": (lambda a: a.results_stream("msgbatch_1"), "GET", f"{BATCHES}/msgbatch_1"),
}
each_operation = pytest.mark.parametrize(
    ("make", "method", "path"), OPERATIONS.values(), ids=OPERATIONS
)
CREDENTIALS: list[dict[str, Any]] = [{"api_key": KEY}, {"api_key": None, "auth_token": KEY}]
#: URLs outside the origin of the API, and their hosts.
OTHER_HOSTS = {
    "https://files.example.test/r": "files.example.test",
    "https://api.example.test.evil.test/r": "api.example.test.evil.test",
    "https://example.test/r": "example.test",
    "https://api.example.test./r": "api.example.test.",
    "https://api.example.test:8443/r": "api.example.test:8443",
    "https://[2001:db8::1]/r": "[2001:db8::1]",
    "http://127.0.0.1:8000/r": "127.0.0.1:8000",
}


def first_request(operation: Operation[Any], method: str, path: str) -> Request:
    """Expect the first request of an operation, after the one for the marker of a create."""
    book = Playbook(operation)
    if (method, path.removeprefix("/proxy")) == ("POST", BATCHES):
        book.expect_marker(prefix=path.removesuffix(BATCHES))
    return book.expect_request(method, path)


def read_results(results_url: str, **settings: Any) -> Playbook:
    """Make an operation that reads results from this URL; it has not sent a request yet."""
    return Playbook(api(**settings).results_stream(ended_batch(results_url=results_url)))


def results_request(results_url: str, path: str = "/r", **settings: Any) -> Request:
    return read_results(results_url, **settings).expect_request("GET", path)


def has_no_credential(request: Request) -> bool:
    names = {"x-api-key", "authorization"} & dict(request.headers).keys()
    return not names and all(KEY not in value for _, value in request.headers)


# --- requests of every operation ---------------------------------------------------------


@each_operation
def test_each_operation_begins_with_its_request(
    make: Callable[[BatchesAPI], Operation[Any]], method: str, path: str
) -> None:
    request = first_request(make(api()), method, path)
    assert request.url == BASE + path
    assert request.origin == ("https", "api.example.test", 443)


@each_operation
def test_each_request_keeps_the_path_of_the_base_url(
    make: Callable[[BatchesAPI], Operation[Any]], method: str, path: str
) -> None:
    first_request(make(api(base_url=BASE + "/proxy/")), method, "/proxy" + path)


@each_operation
@pytest.mark.parametrize(
    ("credential", "header"),
    [
        ({"api_key": KEY}, ("x-api-key", KEY)),
        ({"api_key": None, "auth_token": KEY}, ("authorization", f"Bearer {KEY}")),
    ],
    ids=["key", "token"],
)
def test_each_request_has_the_credential_and_the_configured_headers(
    make: Callable[[BatchesAPI], Operation[Any]],
    method: str,
    path: str,
    credential: dict[str, Any],
    header: tuple[str, str],
) -> None:
    settings = {"version": "2026-10-21", "betas": ["one", "two"], "workspace_id": "wrkspc_1"}
    request = first_request(make(api(**credential, **settings)), method, path)
    headers = dict(request.headers)
    assert len(headers) == len(request.headers)
    assert all(name == name.lower() for name in headers)
    content = {name: headers.pop(name, None) for name in ("content-length", "content-type")}
    assert headers.pop("user-agent").startswith("batches-core/")
    assert headers == {
        header[0]: header[1],
        "accept": "application/json",
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "one,two",
        "anthropic-workspace-id": "wrkspc_1",
    }
    length, type_ = {
        (True, True): (str(len(ENCODED_REQUEST)), "application/json"),
        (True, False): ("0", None),
        (False, False): (None, None),
    }[method == "POST", path == BATCHES and method == "POST"]
    assert content == {"content-length": length, "content-type": type_}
    assert (request.body is not None) == (type_ is not None)


@each_operation
def test_no_repr_of_an_operation_or_its_request_shows_the_credential(
    make: Callable[[BatchesAPI], Operation[Any]], method: str, path: str
) -> None:
    for credential in CREDENTIALS:
        operation = make(api(**credential))
        book = Playbook(operation)
        if (method, path) == ("POST", BATCHES):
            book.expect_marker()
        send: Any = book.next()
        assert (send.request.method, send.request.target) == (method, path)
        for value in (operation, send, send.request, send.request.headers):
            assert KEY not in f"{value!r} {value}"


def test_headers_that_are_not_configured_are_not_sent() -> None:
    headers = dict(first_request(api().get("b"), "GET", f"{BATCHES}/b").headers)
    assert set(headers) == {"x-api-key", "accept", "anthropic-version", "user-agent"}
    assert headers["anthropic-version"] == VERSION


def test_only_a_create_sends_the_user_profile() -> None:
    for name, (make, method, path) in OPERATIONS.items():
        request = first_request(make(api(user_profile_id="uprof_1")), method, path)
        profile = dict(request.headers).get("anthropic-user-profile-id")
        assert profile == ("uprof_1" if name == "create" else None)


@pytest.mark.parametrize(
    ("id_", "segment"), [("a/../b", "a%2F..%2Fb"), ("a?b#c", "a%3Fb%23c"), ("%2e", "%252e")]
)
def test_a_batch_id_is_one_segment_of_the_path(id_: str, segment: str) -> None:
    path = f"{BATCHES}/{segment}"
    first_request(api().get(id_), "GET", path)
    first_request(api().cancel(id_), "POST", path + "/cancel")
    first_request(api().delete(id_), "DELETE", path)
    first_request(api().wait_for(id_), "GET", path)
    first_request(api().results_stream(id_), "GET", path)


@pytest.mark.parametrize(
    "id_",
    ["", ".", "..", None, 5, "\ud800"],
    ids=["empty", "one dot", "two dots", "None", "int", "lone surrogate"],
)
@pytest.mark.parametrize("method", ["get", "cancel", "delete", "wait_for", "results_stream"])
def test_a_batch_id_that_cannot_be_in_a_path_is_refused_at_once(method: str, id_: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^batch "):
        getattr(api(), method)(id_)


# --- settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "there is no credential: pass api_key"),
        (
            {"api_key": KEY, "auth_token": KEY},
            "both api_key and auth_token were passed: pass one",
        ),
        ({"api_key": ""}, "api_key must be a non-empty str"),
        ({"auth_token": ""}, "auth_token must be a non-empty str"),
        ({"api_key": KEY.encode()}, "api_key must be a non-empty str"),
        ({"api_key": KEY + "\n"}, "api_key contains a character that a header cannot contain"),
        ({"auth_token": KEY + "\r\nx: y"}, "auth_token contains a character that a header"),
        ({"api_key": " " + KEY}, "strip"),
    ],
    ids=readable,
)
def test_an_unusable_credential_is_refused_without_showing_it(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason) as caught:
        BatchesAPI(**settings)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)


def test_the_default_base_url_is_the_service() -> None:
    client = BatchesAPI(api_key=KEY)
    assert client.base_url == BASE_URL == "https://api.anthropic.com"
    assert repr(client) == "BatchesAPI(base_url='https://api.anthropic.com')"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"base_url": "api.example.test"}, "base_url cannot be used"),
        ({"version": ""}, "version must be a non-empty str"),
        ({"version": "a\nb"}, "version contains a character"),
        ({"betas": "one"}, "betas must be a list of names, not one str"),
        ({"betas": ["one", ""]}, "each of betas must be a non-empty str"),
        ({"betas": ["one", "t\nwo"]}, "each of betas contains a character"),
        ({"workspace_id": ""}, "workspace_id must be a non-empty str"),
        ({"workspace_id": "a\n"}, "workspace_id contains a character"),
        ({"user_profile_id": ""}, "user_profile_id must be a non-empty str"),
        ({"user_profile_id": "a\0"}, "user_profile_id contains a character"),
    ],
    ids=readable,
)
def test_an_unusable_setting_is_refused_with_the_reason(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        api(**settings)


def test_the_scope_depends_on_url_workspace_and_credential_but_shows_none() -> None:
    scopes = {
        api().scope,
        api(workspace_id="w").scope,
        api(api_key="sk-another-key-1234").scope,
        api(base_url="https://other.test").scope,
    }
    assert len(scopes) == 4
    assert api().scope == api(max_line=5).scope
    assert not any(KEY in scope for scope in scopes)


# --- results URLs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["/r", f"{BASE}/r", f"{BASE}:443/r", f"{BASE.upper()}/r", f"{BASE}/r#x"]
)
def test_a_results_url_at_the_api_receives_the_credential(url: str) -> None:
    assert dict(results_request(url).headers)["x-api-key"] == KEY
    token = dict(results_request(url, api_key=None, auth_token=KEY).headers)
    assert token["authorization"] == f"Bearer {KEY}"


def test_a_results_request_accepts_json_lines_and_keeps_the_settings() -> None:
    headers = dict(results_request("/r?page=1", "/r?page=1", betas=["one"]).headers)
    assert headers["accept"].startswith("application/x-jsonl")
    assert headers["anthropic-beta"] == "one"
    assert headers["anthropic-version"] == VERSION
    assert "content-length" not in headers


def test_a_relative_results_url_keeps_the_path_of_the_base_url() -> None:
    request = results_request("/r", "/proxy/r", base_url=BASE + "/proxy")
    assert request.url == f"{BASE}/proxy/r"


@pytest.mark.parametrize(
    "url", ["", "r", "//evil.test/r", f"https://me:{KEY}@api.example.test/r", "ftp://x/r"]
)
def test_an_unusable_results_url_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(RemoteProtocolError, match="URL that cannot be fetched") as caught:
        read_results(url).next()
    assert KEY not in str(caught.value)


# --- trusted hosts -----------------------------------------------------------------------


@pytest.mark.parametrize(("url", "host"), OTHER_HOSTS.items())
def test_an_untrusted_host_is_refused_by_name(url: str, host: str) -> None:
    with pytest.raises(
        UntrustedHostError, match=r"nothing was sent there.*trusted_hosts="
    ) as caught:
        read_results(url).next()
    assert caught.value.host == host
    assert repr(host) in str(caught.value)


@pytest.mark.parametrize("credential", CREDENTIALS, ids=["key", "token"])
@pytest.mark.parametrize(("url", "host"), OTHER_HOSTS.items())
def test_a_trusted_host_receives_the_request_without_the_credential(
    url: str, host: str, credential: dict[str, Any]
) -> None:
    request = results_request(url, trusted_hosts=[host], **credential)
    assert request.url == url
    assert has_no_credential(request)


def test_a_trusted_name_without_a_port_covers_every_port_in_any_case() -> None:
    for port in ("", ":8443"):
        url = f"https://files.example.test{port}/r"
        assert has_no_credential(results_request(url, trusted_hosts=["Files.Example.Test"]))


def test_a_trusted_name_with_a_port_covers_no_other_port() -> None:
    url = "https://files.example.test/r"
    with pytest.raises(UntrustedHostError):
        read_results(url, trusted_hosts=["files.example.test:8443"]).next()


@pytest.mark.parametrize(
    ("trusted", "url"),
    [
        ("files.example.test:443", "https://files.example.test/r"),
        ("[2001:db8::1]", "https://[2001:db8::1]:8443/r"),
        ("[2001:DB8::1]:8443", "https://[2001:db8::1]:8443/r"),
    ],
)
def test_trusted_hosts_are_compared_in_the_form_of_urls(trusted: str, url: str) -> None:
    assert has_no_credential(results_request(url, trusted_hosts=[trusted]))


def test_plain_http_to_the_name_of_the_api_is_another_origin() -> None:
    with pytest.raises(UntrustedHostError):
        read_results("http://api.example.test/r").next()


@pytest.mark.parametrize(
    "hosts",
    ["files.example.test", [""], ["https://x.test"], ["x.test/"], ["me@x.test"], [5]],
    ids=readable,
)
def test_trusted_hosts_must_be_a_list_of_host_names(hosts: Any) -> None:
    with pytest.raises(InvalidInputError, match="trusted_hosts"):
        api(trusted_hosts=hosts)


def test_a_redirect_to_a_trusted_host_is_followed_without_the_credential() -> None:
    book = read_results("/r", trusted_hosts=["files.example.test"])
    book.expect_request("GET", "/r")
    book.respond(b"", 302, [("location", "https://files.example.test/a/b?signature=s")])
    assert has_no_credential(book.expect_request("GET", "/a/b?signature=s"))
    book.respond(b"", 302, [("location", "c")])
    request = book.expect_request("GET", "/a/c")
    assert request.url == "https://files.example.test/a/c"
    assert has_no_credential(request)


@pytest.mark.parametrize(("url", "host"), OTHER_HOSTS.items())
def test_a_redirect_to_an_untrusted_host_is_refused_by_name(url: str, host: str) -> None:
    book = read_results("/r")
    book.expect_request("GET", "/r")
    book.respond(b"", 307, [("location", url)])
    with pytest.raises(UntrustedHostError) as caught:
        book.next()
    assert caught.value.host == host


# --- plain http --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.test",
        "http://10.0.0.1",
        "http://localhost.evil.test",
        "http://a.localhost",
    ],
)
def test_a_plain_http_base_url_needs_allow_http(base_url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"allow_http=True"):
        api(base_url=base_url)
    assert api(base_url=base_url, allow_http=True).base_url == base_url


def test_plain_http_to_a_trusted_host_needs_allow_http() -> None:
    url = "http://files.example.test/r"
    with pytest.raises(UntrustedHostError, match=r"plain http.*allow_http=True") as caught:
        read_results(url, trusted_hosts=["files.example.test"]).next()
    assert caught.value.host == "files.example.test"
    request = results_request(url, trusted_hosts=["files.example.test"], allow_http=True)
    assert has_no_credential(request)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.8.7", "[::1]"])
def test_plain_http_to_this_machine_is_accepted(host: str) -> None:
    api(base_url=f"http://{host}:8000")
