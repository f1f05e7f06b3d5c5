"""A blocking client can be used by several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import transports.h11
import transports.httpx
from batches_core.emulator import Emulator
from tests.support.playbook import REQUEST
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

THREADS = 8
CALLS = 40


def over_httpx(base_url: str) -> Any:
    return transports.httpx.BatchesClient(api_key="k", base_url=base_url, client=httpx.Client())


def over_h11(base_url: str) -> Any:
    return transports.h11.BatchesClient(api_key="k", base_url=base_url)


@pytest.mark.parametrize("make", [over_h11, over_httpx])
def test_threads_share_a_blocking_client(make: Callable[[str], Any]) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(CALLS):
                assert client.get(batch.id).id == batch.id
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            errors.append(error)

    with running_emulator(Emulator()) as base_url, make(base_url) as client:
        batch = client.create([REQUEST])
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if make is over_httpx:
            client._transport._client.close()
    assert errors == []
