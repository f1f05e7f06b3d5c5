"""Callables of every kind that a user may pass where a plain function is wanted."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator


async def async_function(value: object) -> None:
    """Stand for a function that is to be awaited."""


async def async_generator(value: object) -> AsyncIterator[object]:
    yield value


class AsyncCallable:
    async def __call__(self, value: object) -> None:
        """Stand for an object whose call is to be awaited."""

    async def method(self, value: object) -> None:
        """Likewise."""


class PlainCallable:
    def __call__(self, value: object) -> bool:
        return bool(value)


ASYNC_CALLABLES = [
    async_function,
    async_generator,
    AsyncCallable(),
    AsyncCallable().method,
    functools.partial(async_function),
    functools.partial(functools.partial(AsyncCallable())),
]
