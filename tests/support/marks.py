"""Marks that run a test once for each carrier, or for each library."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from tests.support.carriers import ASYNC_CARRIERS, CARRIERS, OVER_HTTPX, RAW, Carrier


def each_of(carriers: list[Carrier]) -> pytest.MarkDecorator:
    """Return a mark that runs a test once for each of these carriers."""
    return pytest.mark.parametrize("carrier", carriers, ids=lambda carrier: carrier.name)


every_carrier = each_of(CARRIERS)
raw_carriers = each_of(RAW)
httpx_carriers = each_of(OVER_HTTPX)
async_carriers = each_of(ASYNC_CARRIERS)
httpx_libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
