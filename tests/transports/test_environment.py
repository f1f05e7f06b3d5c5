"""The settings that clients read from the environment."""

from __future__ import annotations

from typing import Any

import pytest

import transports.asyncio
import transports.h11
import transports.trio
from batches_core import InvalidInputError
from transports._client.environment import proxy_of, settings_from_env
from transports.httpx import AsyncBatchesClient, BatchesClient

KEY = "sk-never-to-be-shown"


def test_from_env_reads_the_api_key_and_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1/x")
    with BatchesClient.from_env(timeout=3) as client:
        assert repr(client) == "<transports.httpx.BatchesClient of http://127.0.0.1:1/x>"
        assert client._api._endpoint._credentials == (("x-api-key", KEY),)
    with BatchesClient.from_env(base_url="http://127.0.0.1:2", auth_token="t") as client:
        assert client._api._endpoint._credentials == (("authorization", "Bearer t"),)
        assert "127.0.0.1:2" in repr(client)


def test_from_env_reads_the_auth_token_if_there_is_no_api_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "tok")
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    client = AsyncBatchesClient.from_env()
    assert client._api._endpoint._credentials == (("authorization", "Bearer tok"),)
    assert "https://api.anthropic.com" in repr(client)


def test_from_env_without_a_credential_names_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInputError, match="set ANTHROPIC_API_KEY"):
        BatchesClient.from_env()


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p"}, "http://p"),
        ({"https_proxy": "http://p"}, "http://p"),
        ({"ALL_PROXY": "http://p"}, "http://p"),
        ({"HTTP_PROXY": "http://p"}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "api.example.test"}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a.test, .example.test"}, None),
        ({"HTTPS_PROXY": "http://p", "no_proxy": "*"}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "ample.test"}, "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ","}, "http://p"),
        ({"HTTPS_PROXY": "p:8080"}, "http://p:8080"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "api.example.test:443"}, None),
    ],
    ids=str,
)
def test_the_environment_determines_the_proxy_of_a_host(
    environment: dict[str, str], proxy: str | None
) -> None:
    assert proxy_of(environment, "api.example.test") == proxy


def test_from_env_reads_the_proxy_for_the_raw_transports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert settings_from_env({}, with_proxy=True)["proxy"] == "http://p:1"
    assert settings_from_env({"proxy": None}, with_proxy=True)["proxy"] is None
    assert "proxy" not in settings_from_env({}, with_proxy=False)
    for module in (transports.h11, transports.trio, transports.asyncio):
        client: Any = module.BatchesClient.from_env()
        assert repr(client._transport._dialer._proxy) == "<Proxy p:1>"
