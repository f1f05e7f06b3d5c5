"""What a type checker says of the clients' parameters: ``mypy --strict`` reads this file.

A mistake that it no longer saw would leave an ignore unused, which is an error too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import transports.h11
import transports.httpx
import transports.trio
from batches_core import InvalidInputError, MessageBatch
from transports.httpx import AsyncBatchesClient, BatchesClient

KEY = "sk-never-to-be-shown"


def _misspelt() -> list[Callable[[], object]]:
    return [
        lambda: BatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: BatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: BatchesClient.from_env(proxy="x"),  # type: ignore[call-arg]  # httpx's own affair
        lambda: AsyncBatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: AsyncBatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: transports.h11.BatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: transports.h11.BatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: transports.h11.BatchesClient.from_env(client=None),  # type: ignore[call-arg]  # httpx's
        lambda: transports.trio.BatchesClient(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: transports.trio.BatchesClient.from_env(apikey=KEY),  # type: ignore[call-arg]  # the mistake
        lambda: BatchesClient(api_key=KEY).results("b", expcted=[]),  # type: ignore[call-overload]  # the mistake
        lambda: BatchesClient(api_key=KEY).download("b", "p", expcted=[]),  # type: ignore[call-arg]  # the mistake
    ]


def _mistyped() -> list[Callable[[], object]]:
    return [
        lambda: BatchesClient(api_key=5),  # type: ignore[arg-type]  # the mistake
        lambda: BatchesClient.from_env(auth_token=5),  # type: ignore[arg-type]  # the mistake
        lambda: AsyncBatchesClient.from_env(api_key=KEY, timeout="3"),  # type: ignore[arg-type]  # the mistake
        lambda: transports.h11.BatchesClient.from_env(api_key=KEY, timeout="3"),  # type: ignore[arg-type]  # the mistake
        lambda: transports.trio.BatchesClient.from_env(api_key=KEY, timeout="3"),  # type: ignore[arg-type]  # the mistake
        lambda: BatchesClient(api_key=KEY).get(5),  # type: ignore[arg-type]  # the mistake
        lambda: BatchesClient(api_key=KEY).wait_for(None),  # type: ignore[arg-type]  # the mistake
    ]


@pytest.mark.parametrize("mistake", _misspelt())
def test_a_misspelt_parameter_is_seen_by_a_checker_and_refused(
    mistake: Callable[[], object],
) -> None:
    with pytest.raises(TypeError, match=r"parameter|unexpected keyword argument"):
        mistake()


@pytest.mark.parametrize("mistake", _mistyped())
def test_a_value_of_another_type_is_seen_by_a_checker_and_refused(
    mistake: Callable[[], object],
) -> None:
    with pytest.raises(InvalidInputError):
        mistake()


def test_what_is_right_needs_no_ignore() -> None:
    def read(client: BatchesClient, batch: MessageBatch) -> MessageBatch:
        client.cancel(batch)
        client.delete(batch.id)
        return client.wait_for(client.get(batch))

    assert callable(read)
    with BatchesClient.from_env(api_key=KEY, max_line=5, timeout=3.0, on_event=print):
        pass
    with transports.h11.BatchesClient.from_env(api_key=KEY, proxy=None, betas=["a"]):
        pass
