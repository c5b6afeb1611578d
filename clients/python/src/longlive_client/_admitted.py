"""Waiting for a session that stands in the line until it has room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ._errors import LongLiveError
from ._generated import AtCapacityError
from ._session import Session

RETRY_SECONDS = 10


@dataclass(frozen=True)
class RoomWait:
    """Until its turn, about, or until it is asked for again; and its place in the line, where there is one. 1 is next."""

    seconds: float | None
    place: int | None = None


async def admitted(session: Session, on_wait: Callable[[RoomWait], None]) -> Session:
    """The session when it has room. Raises AtCapacityError when it has waited in vain; cancelled, it leaves the line."""
    changed = asyncio.Event()
    leave = session.watch(lambda _: changed.set())
    told: RoomWait | None = None
    try:
        while True:
            state = session.state
            if state.status == "lost":
                raise state.error or LongLiveError("The session cannot be watched any more.")
            if state.reason == "CAPACITY":
                message = "No device had room for the session in time. Try again later."
                raise AtCapacityError("AT_CAPACITY", message, retry_after_seconds=RETRY_SECONDS)
            if state.status not in ("queued", "connecting", "reconnecting"):
                return session
            wait = RoomWait(state.wait_seconds, state.place)
            if state.status == "queued" and wait != told:
                told = wait
                on_wait(wait)
            await changed.wait()
            changed.clear()
    except asyncio.CancelledError:
        with suppress(LongLiveError):
            await session.stop()
        raise
    finally:
        leave()
