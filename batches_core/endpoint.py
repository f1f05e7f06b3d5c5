"""The API's address and credentials, from which requests are built.

`Endpoint` puts the credential only into requests to the API's own origin. It decides which other
hosts may be read without a credential. `api` decides which requests an operation makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from ._version import __version__
from .errors import InvalidInputError, UntrustedHostError
from .http import Body, Request
from .redaction import Secret
from .urls import (
    authority,
    check_base_url,
    is_host,
    is_in_the_clear,
    origin,
    path_segment,
    resolve,
    resolve_redirect,
    shown_host,
    with_query,
)
from .validation import check_header_value

_PATH = "/v1/messages/batches"
_USER_AGENT = ("user-agent", f"batches-core/{__version__}")

_Headers = tuple[tuple[str, str], ...]


class Endpoint:
    """The Message Batches API at one base URL, for one credential.

    The parameters are those of `BatchesAPI`. `scope` is a hash of the base URL, the workspace and
    the credential; it identifies the list of batches.

    Raises:
        InvalidInputError: there is no credential or there are two, or a value cannot be sent.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        auth_token: str | None,
        base_url: str,
        version: str,
        betas: Sequence[str],
        workspace_id: str | None,
        user_profile_id: str | None,
        trusted_hosts: Iterable[str],
        allow_http: bool,
    ) -> None:
        self.base_url = check_base_url(base_url)
        self.workspace_id = workspace_id
        self._allow_http = allow_http
        if is_in_the_clear(self.base_url) and not allow_http:
            raise InvalidInputError(
                f"base_url {self.base_url} is plain http to another machine, so others can read "
                "the credential: use https, or pass allow_http=True if the network is safe"
            )
        self._trusted_hosts = _check_trusted_hosts(trusted_hosts)
        self._credentials: _Headers = (_credential_header(api_key, auth_token),)
        self.scope = _hash_scope(self.base_url, workspace_id, self._credentials[0][1])
        self._headers: _Headers = (
            ("anthropic-version", check_header_value("version", version)),
            _USER_AGENT,
            *_beta_headers(betas),
            *_optional_header("anthropic-workspace-id", "workspace_id", workspace_id),
        )
        self._create_headers: _Headers = _optional_header(
            "anthropic-user-profile-id", "user_profile_id", user_profile_id
        )

    def create_request(self, body: Body) -> Request:
        """Build the request that creates a batch."""
        return self._request("POST", "", body=body, headers=self._create_headers)

    def batch_request(self, method: str, batch_id: str, action: str = "") -> Request:
        """Build a request for one batch; `action` is a path below it, such as ``/cancel``.

        Raises:
            InvalidInputError: the id cannot be used in a path.
        """
        return self._request(method, f"/{path_segment('batch', batch_id)}{action}")

    def page_request(
        self, limit: int | None, before_id: str | None = None, after_id: str | None = None
    ) -> Request:
        """Build the request for one page of the list."""
        fields: Mapping[str, object] = {
            "limit": limit,
            "before_id": before_id,
            "after_id": after_id,
        }
        query = {name: str(value) for name, value in fields.items() if value is not None}
        return self._request("GET", with_query("", query))

    def results_request(self, link: str, redirected_from: Request | None) -> Request:
        """Build the request for a ``results_url``, or for the location of a redirect.

        `redirected_from` is the request that was redirected; None for a ``results_url``. A request
        to an origin other than the API's contains no credential.

        Raises:
            RemoteProtocolError: the link is not a URL that can be fetched.
            UntrustedHostError: its host is neither the API's nor trusted, or it is plain http and
                not allowed.
        """
        if redirected_from is None:
            url = resolve(self.base_url, link)
        else:
            url = resolve_redirect(redirected_from.url, link)
        # A preference only: the content-type of the response is not checked, because the service
        # has sent results without one.
        accept = ("accept", "application/x-jsonl, application/json;q=0.9, */*;q=0.8")
        if origin(url) == origin(self.base_url):
            headers = (*self._credentials, accept, *self._headers)
            return Request(method="GET", url=url, headers=headers)
        if not {shown_host(url), authority(url)} & self._trusted_hosts:
            raise UntrustedHostError(authority(url), plain=False)
        if is_in_the_clear(url) and not self._allow_http:
            raise UntrustedHostError(authority(url), plain=True)
        return Request(method="GET", url=url, headers=(accept, _USER_AGENT), cross_origin=True)

    def _request(
        self, method: str, path: str, *, body: Body | None = None, headers: _Headers = ()
    ) -> Request:
        content: _Headers = ()
        if body is not None:
            content = (
                ("content-type", "application/json"),
                ("content-length", str(body.content_length)),
            )
        elif method == "POST":
            content = (("content-length", "0"),)
        return Request(
            method=method,
            url=self.base_url + _PATH + path,
            headers=(
                *self._credentials,
                ("accept", "application/json"),
                *self._headers,
                *headers,
                *content,
            ),
            body=body,
        )


def _credential_header(api_key: str | None, auth_token: str | None) -> tuple[str, str]:
    if api_key is not None and auth_token is not None:
        raise InvalidInputError("both api_key and auth_token were passed: pass one of them")
    if api_key is not None:
        return "x-api-key", Secret(check_header_value("api_key", api_key))
    if auth_token is not None:
        token = check_header_value("auth_token", auth_token)
        return "authorization", Secret(f"Bearer {token}")
    raise InvalidInputError(
        "there is no credential: pass api_key=… or auth_token=…, or set ANTHROPIC_API_KEY and use "
        "from_env()"
    )


def _beta_headers(betas: Sequence[str]) -> _Headers:
    if isinstance(betas, str):
        raise InvalidInputError(f"betas must be a list of names, not one str: pass [{betas!r}]")
    names = [check_header_value("each of betas", name) for name in betas]
    return (("anthropic-beta", ",".join(names)),) if names else ()


def _optional_header(header: str, parameter: str, value: str | None) -> _Headers:
    return () if value is None else ((header, check_header_value(parameter, value)),)


def _hash_scope(base_url: str, workspace_id: str | None, credential: str) -> str:
    named = "\0".join((base_url, workspace_id or "", credential))
    return blake2b(named.encode(), digest_size=16, person=b"batches-core").hexdigest()


def _check_trusted_hosts(hosts: Iterable[str]) -> frozenset[str]:
    if isinstance(hosts, str):
        raise InvalidInputError(
            f"trusted_hosts must be a list of host names, not one str: pass [{hosts!r}]"
        )
    trusted = tuple(hosts)
    for host in trusted:
        if not is_host(host):
            raise InvalidInputError(
                f"trusted_hosts holds {host!r}: pass host names, with a port unless it is the "
                "default one, as in 'files.example.com'"
            )
    # Normalized like the URLs that are compared with them: lower case, without a default port.
    return frozenset(authority(f"https://{host}") for host in trusted)
