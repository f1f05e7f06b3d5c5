"""The slices in which request bodies are sent."""

from __future__ import annotations

import pytest

from batches_core.http import BytesBody
from transports._client.bodies import SLICE, slices


@pytest.mark.parametrize(
    "sizes", [(), (0,), (1,), (SLICE,), (SLICE + 1,), (3, 2 * SLICE + 5, 7)], ids=str
)
def test_slices_join_to_the_body_and_stay_within_the_slice_size(sizes: tuple[int, ...]) -> None:
    body = BytesBody(tuple(bytes([n + 1]) * size for n, size in enumerate(sizes)))
    parts = [bytes(part) for part in slices(body)]
    assert b"".join(parts) == b"".join(body)
    assert all(len(part) <= SLICE for part in parts)
