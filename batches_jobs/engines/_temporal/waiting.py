"""Waits in a workflow, with commands in the same order on every version of Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from temporalio import workflow


async def wait_for(condition: Callable[[], bool], seconds: float | None) -> bool:
    """Wait for a condition; return False if it is not met within so many seconds.

    A timeout of `workflow.wait_condition` is one of asyncio, which takes its steps in another order
    since Python 3.12. A worker on another Python could not replay what that did.
    """
    if seconds is None:
        await workflow.wait_condition(condition)
        return True
    is_over = False

    def expire() -> None:
        nonlocal is_over
        is_over = True

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        await workflow.wait_condition(lambda: is_over or condition())
    finally:
        timer.cancel()
    return condition()
