"""Callables of every kind, which a user may pass by mistake where a plain function is needed."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator


async def async_function(value: object) -> None:
    """A function that must be awaited."""


async def async_generator(value: object) -> AsyncIterator[object]:
    yield value


class AsyncCallable:
    async def __call__(self, value: object) -> None:
        """An object whose call must be awaited."""

    async def method(self, value: object) -> None:
        """A method that must be awaited."""


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
