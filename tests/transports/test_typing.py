"""Type checkers and clients reject the same mistakes: ``mypy --strict`` checks this file.

If mypy no longer found a mistake, its ignore comment would be unused, which is an error too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import transports.asyncio
import transports.h11
import transports.httpx
import transports.trio
from batches_core import InvalidInputError, MessageBatch
from transports.httpx import AsyncBatchesClient, BatchesClient

KEY = "sk-never-to-be-shown"


MISSPELT: dict[str, Callable[[], object]] = {
    "client": lambda: BatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "from_env": lambda: BatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "from_env, proxy": lambda: BatchesClient.from_env(proxy="x"),  # type: ignore[call-arg]  # httpx reads it itself
    "async client": lambda: AsyncBatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "async from_env": lambda: AsyncBatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "h11 client": lambda: transports.h11.BatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "h11 from_env": lambda: transports.h11.BatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "h11 from_env, client": lambda: transports.h11.BatchesClient.from_env(client=None),  # type: ignore[call-arg]  # httpx only
    "trio client": lambda: transports.trio.BatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "asyncio client": lambda: transports.asyncio.BatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "trio from_env": lambda: transports.trio.BatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "asyncio from_env": lambda: transports.asyncio.BatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
    "results": lambda: BatchesClient(api_key=KEY).results("b", expcted=[]),  # type: ignore[call-overload]  # the mistake
    "download": lambda: BatchesClient(api_key=KEY).download("b", "p", expcted=[]),  # type: ignore[call-arg]  # the mistake
}


MISTYPED: dict[str, Callable[[], object]] = {
    "client": lambda: BatchesClient(api_key=5),  # type: ignore[arg-type]  # the mistake
    "from_env": lambda: BatchesClient.from_env(auth_token=5),  # type: ignore[arg-type]  # the mistake
    "async from_env": lambda: AsyncBatchesClient.from_env(api_key=KEY, timeout="3"),  # type: ignore[arg-type]  # the mistake
    "h11 from_env": lambda: transports.h11.BatchesClient.from_env(api_key=KEY, timeout="3"),  # type: ignore[arg-type]  # the mistake
    "trio from_env": lambda: transports.trio.BatchesClient.from_env(api_key=KEY, timeout="3"),  # type: ignore[arg-type]  # the mistake
    "get": lambda: BatchesClient(api_key=KEY).get(5),  # type: ignore[arg-type]  # the mistake
    "wait_for": lambda: BatchesClient(api_key=KEY).wait_for(None),  # type: ignore[arg-type]  # the mistake
}


@pytest.mark.parametrize("mistake", MISSPELT.values(), ids=MISSPELT)
def test_a_type_checker_and_a_client_reject_a_misspelt_parameter(
    mistake: Callable[[], object],
) -> None:
    with pytest.raises(TypeError, match=r"parameter|unexpected keyword argument"):
        mistake()


@pytest.mark.parametrize("mistake", MISTYPED.values(), ids=MISTYPED)
def test_a_type_checker_and_a_client_reject_a_value_of_another_type(
    mistake: Callable[[], object],
) -> None:
    with pytest.raises(InvalidInputError):
        mistake()


def test_correct_calls_need_no_type_ignore() -> None:
    def read(client: BatchesClient, batch: MessageBatch) -> MessageBatch:
        client.cancel(batch)
        client.delete(batch.id)
        return client.wait_for(client.get(batch))

    assert callable(read)
    with BatchesClient.from_env(api_key=KEY, max_line=5, timeout=3.0, on_event=print):
        pass
    with transports.h11.BatchesClient.from_env(api_key=KEY, proxy=None, betas=["a"]):
        pass
