"""What happens to a session, apart from its video: one subscription without media, read as it comes, while somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Union

from ._errors import ClosedError
from ._generated import (
    AppliedEvent,
    CancelledEvent,
    EndedEvent,
    Failure,
    HeartbeatEvent,
    SessionEvent,
    SessionFacts,
    StateEvent,
    SupersededEvent,
)
from ._log import read_log
from ._wire import Wire


@dataclass(frozen=True)
class State:
    """What a session is doing. `as_` says how it ended; `place` (1 is next) and `wait_seconds`, where it stands while it is queued, if that is known."""

    status: Literal["connecting", "queued", "starting", "live", "paused", "reconnecting", "ended", "lost"]
    reason: str | None = None
    failure: Failure | None = None
    as_: str | None = None
    error: BaseException | None = None
    place: int | None = None
    wait_seconds: float | None = None


@dataclass(frozen=True)
class Applied:
    block: int
    frame: int
    seconds: float
    recache_milliseconds: float
    waited_milliseconds: float | None
    status: Literal["applied"] = "applied"


@dataclass(frozen=True)
class Superseded:
    """A later one took its place."""

    by: str
    status: Literal["superseded"] = "superseded"


@dataclass(frozen=True)
class Discarded:
    """The session ended before."""

    status: Literal["discarded"] = "discarded"


@dataclass(frozen=True)
class Cancelled:
    """Somebody took it back."""

    status: Literal["cancelled"] = "cancelled"


Outcome = Union[Applied, Superseded, Cancelled, Discarded]
Listener = Callable[[Union[SessionEvent, None]], None]

OUTCOMES_KEPT = 500
ENDED = {"COMPLETED", "STOPPED", "FAILED"}


class Control:
    def __init__(self, wire: Wire, facts: SessionFacts) -> None:
        self._wire, self._id = wire, facts.id
        self._told = _state(facts)
        self._cursor, self._over = facts.cursor, facts.ended
        self._connection: Literal["idle", "connecting", "open", "lost"] = "idle"
        self._failed: BaseException | None = None
        self._listeners: list[Listener] = []
        self._outcomes: dict[str, Outcome] = {}
        self._reading: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        if self._failed:
            return State("lost", error=self._failed)
        if self._over or self._told.status == "ended":
            return self._told
        if self._connection == "connecting":
            return State("connecting")
        return State("reconnecting") if self._connection == "lost" else self._told

    def watch(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        if self._reading is None and not self._over and self._failed is None:
            self._connection = "connecting"
            self._reading = asyncio.create_task(self._read())

        def leave() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)
            if not self._listeners:
                self._stop()

        return leave

    def learn(self, facts: SessionFacts) -> None:
        """What an answer of the service said, which may be newer than the stream."""
        if not self._over:
            self._told = _state(facts)
            self._tell(None)

    async def outcome(self, receipt_id: str) -> Outcome:
        """What becomes of a prompt that was asked for since this began."""
        changed = asyncio.Event()
        leave = self.watch(lambda _: changed.set())
        try:
            while True:
                if receipt_id in self._outcomes:
                    return self._outcomes[receipt_id]
                if self._over:
                    return Discarded()
                if self._failed:
                    raise self._failed
                await changed.wait()
                changed.clear()
        finally:
            leave()

    def close(self) -> None:
        self._failed = self._failed or ClosedError()
        self._stop()
        self._tell(None)

    def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading, self._connection = None, "idle"

    async def _read(self) -> None:
        try:
            log = read_log(self._wire, self._id, after=self._cursor, media="NONE", on_connection=self._connected)
            async with aclosing(log) as events:
                async for event in events:
                    self._take(event)
        except Exception as error:
            self._failed = error
            self._tell(None)

    def _connected(self, what: Any) -> None:
        if isinstance(what, HeartbeatEvent):
            self._told = _state(what)
            what = "open"
        self._connection = what
        self._tell(None)

    def _take(self, event: SessionEvent) -> None:
        self._cursor = event.cursor
        if isinstance(event, (StateEvent, EndedEvent)):
            self._told = _state(event)
        if isinstance(event, AppliedEvent):
            names = ("block", "frame", "seconds", "recache_milliseconds", "waited_milliseconds")
            self._settle(event.receipt_id, Applied(**{name: getattr(event, name) for name in names}))
        if isinstance(event, SupersededEvent):
            self._settle(event.receipt_id, Superseded(event.superseded_by))
        if isinstance(event, CancelledEvent):
            self._settle(event.receipt_id, Cancelled())
        if isinstance(event, EndedEvent):
            self._over = True
        self._tell(event)

    def _settle(self, receipt_id: str, outcome: Outcome) -> None:
        self._outcomes[receipt_id] = outcome
        if len(self._outcomes) > OUTCOMES_KEPT:
            del self._outcomes[next(iter(self._outcomes))]

    def _tell(self, event: SessionEvent | None) -> None:
        for listener in list(self._listeners):
            listener(event)


def _state(told: SessionFacts | StateEvent | HeartbeatEvent | EndedEvent) -> State:
    if told.state in ENDED:
        return State("ended", told.reason, told.failure, told.state)
    status: Any = told.state.lower()
    if status == "queued":
        queue = getattr(told, "queue", None)
        return State(status, place=queue and queue.place, wait_seconds=queue and queue.wait_seconds)
    return State(status, told.reason, told.failure) if status == "paused" else State(status)
