"""The parameters of the clients: names, defaults, checks, and help."""

from __future__ import annotations

import inspect
import pydoc
import random
from typing import Any

import pytest

from batches_core import BatchesAPI, InvalidInputError
from tests.support.callables import ASYNC_CALLABLES
from transports import asyncio, h11, trio
from transports._client.settings import Settings, make_api
from transports._http11._async.client import AsyncHTTP11Arguments
from transports._http11._sync.client import HTTP11Arguments
from transports._httpx._async.client import AsyncHTTPXArguments
from transports._httpx._sync.client import HTTPXArguments
from transports.httpx import AsyncBatchesClient, BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

KEY = "sk-never-to-be-shown"
CLIENTS = [
    BatchesClient,
    AsyncBatchesClient,
    h11.BatchesClient,
    trio.BatchesClient,
    asyncio.BatchesClient,
]

#: The further parameters of each client, with their defaults.
HTTP11_PARAMETERS = {
    "timeout": 120.0,
    "ssl_context": None,
    "proxy": None,
    "connect": None,
    "on_event": None,
}
OWN_PARAMETERS: list[tuple[Any, Any, dict[str, Any]]] = [
    (BatchesClient, HTTPXArguments, {"client": None, "timeout": None}),
    (AsyncBatchesClient, AsyncHTTPXArguments, {"client": None, "timeout": None}),
    (h11.BatchesClient, HTTP11Arguments, HTTP11_PARAMETERS),
    (trio.BatchesClient, AsyncHTTP11Arguments, HTTP11_PARAMETERS),
    (asyncio.BatchesClient, AsyncHTTP11Arguments, HTTP11_PARAMETERS),
]


def name_of(client_type: Any) -> str:
    return f"{client_type.__module__}.{client_type.__qualname__}"


every_client = pytest.mark.parametrize("client_type", CLIENTS, ids=name_of)


def annotations_of(types: Any) -> dict[str, str]:
    return {name: hint.__forward_arg__ for name, hint in types.__annotations__.items()}


# --- names and help --------------------------------------------------------------------


def test_client_settings_are_the_parameters_of_the_api() -> None:
    parameters = inspect.signature(BatchesAPI).parameters
    assert annotations_of(Settings) == {
        name: parameter.annotation for name, parameter in parameters.items()
    }


@pytest.mark.parametrize(
    ("client_type", "arguments", "own"),
    OWN_PARAMETERS,
    ids=[name_of(client_type) for client_type in CLIENTS],
)
def test_help_shows_every_client_parameter_with_its_type_and_default(
    client_type: Any, arguments: Any, own: dict[str, Any]
) -> None:
    api_parameters = inspect.signature(BatchesAPI).parameters
    defaults = {name: parameter.default for name, parameter in api_parameters.items()}
    defaults |= {"jitter": random.random, "on_event": None, **own}
    for function in (client_type, client_type.from_env):
        parameters = inspect.signature(function).parameters
        assert {name: each.default for name, each in parameters.items()} == defaults
        assert {each.kind for each in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
        # A type checker uses the annotations of `arguments`.
        types = {name: each.annotation for name, each in parameters.items()}
        assert types == annotations_of(arguments)
    text = pydoc.plain(pydoc.render_doc(client_type))
    assert f"max_line: 'int' = {defaults['max_line']}" in text
    assert text.count("max_line: 'int'") == 3  # the class, its __init__ and from_env


@pytest.mark.parametrize("method", ["results_stream", "results", "download"])
@every_client
def test_help_shows_the_resume_and_expected_parameters_of_results_methods(
    client_type: Any, method: str
) -> None:
    parameters = inspect.signature(getattr(client_type, method)).parameters
    api_parameters = inspect.signature(BatchesAPI.results_stream).parameters
    for name in ("resume", "expected"):
        assert parameters[name] == api_parameters[name]


@every_client
def test_a_client_accepts_every_parameter_of_its_signature(
    client_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    parameters = inspect.signature(client_type).parameters
    defaults = {name: each.default for name, each in parameters.items()}
    for make in (client_type, client_type.from_env):
        client = make(**{**defaults, "api_key": KEY})
        assert client._api._jitter is random.random


@every_client
def test_an_unknown_client_parameter_raises_a_type_error_with_a_suggestion(
    client_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    name = name_of(client_type)
    for make in (client_type, client_type.from_env):
        with pytest.raises(TypeError) as caught:
            make(apikey=KEY)
        message = str(caught.value)
        assert message.startswith(f"{name} has no parameter apikey: did you mean api_key? Its ")
        assert message.endswith(f"{', '.join(inspect.signature(client_type).parameters)}")
        assert KEY not in message
        with pytest.raises(TypeError, match=r"time_out: did you mean timeout\?"):
            make(api_key=KEY, time_out=3)
        with pytest.raises(
            TypeError, match=f"^{name} has no parameter zzz: its parameters are api_key, "
        ):
            make(api_key=KEY, zzz=3)


def test_a_client_subclass_can_add_its_own_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    class TeamClient(h11.BatchesClient):
        def __init__(self, *, team: str, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.team = team

    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    from_env: Any = TeamClient.from_env
    assert from_env(team="blue", max_line=3).team == "blue"
    with pytest.raises(TypeError, match=r"^transports\.h11\.BatchesClient has no parameter mx"):
        from_env(team="blue", mx_line=3)


def test_jitter_is_random_by_default_and_can_be_replaced() -> None:
    assert make_api({"api_key": KEY})._jitter is random.random
    assert make_api({"api_key": KEY, "jitter": float})._jitter is float


# --- checks ----------------------------------------------------------------------------


def test_an_api_key_with_a_line_break_is_rejected_and_not_shown() -> None:
    with pytest.raises(InvalidInputError, match="line break") as caught:
        BatchesClient(api_key=KEY + "\n")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, "5", float("nan"), float("inf")])
@every_client
def test_a_timeout_must_be_a_positive_finite_number(client_type: Any, timeout: Any) -> None:
    with pytest.raises(InvalidInputError, match="timeout must be a number of seconds, more than 0"):
        client_type(api_key=KEY, timeout=timeout)


@every_client
def test_an_event_callback_must_be_callable(client_type: Any) -> None:
    with pytest.raises(InvalidInputError, match="on_event must be a function"):
        client_type(api_key=KEY, on_event=3)


@every_client
@pytest.mark.parametrize(
    "on_event",
    ASYNC_CALLABLES,
    ids=["function", "generator", "object", "method", "partial", "nested partial"],
)
def test_an_async_event_callback_is_rejected(client_type: Any, on_event: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        client_type(api_key=KEY, on_event=on_event)
    assert str(caught.value) == (
        "on_event is an async function, but is called without await: pass a plain function"
    )
