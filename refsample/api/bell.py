"""Wakes the streams of an event loop when there are tokens: all of them at once, once a step. Knows no request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from weakref import WeakKeyDictionary, ref


class Bell:
    """One for each event loop. A wake-up of the loop costs as much as a token, so sixteen streams share one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # the loop holds the bell, not the other way round
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        """Whoever waits looks again. From any thread."""
        loop = self._loop()
        if loop is not None:
            with suppress(RuntimeError):  # it was closed meanwhile: nobody waits there
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def heard(self) -> None:
        """Wait for the next ring. Nothing is missed that comes after the last look: both are on the loop's thread."""
        one = asyncio.get_running_loop().create_future()
        self._waiting.append(one)
        await one


Bells = WeakKeyDictionary[asyncio.AbstractEventLoop, Bell]


def bell_here(bells: Bells) -> Bell:
    """The bell of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in bells:
        bells[loop] = Bell(loop)
    return bells[loop]
