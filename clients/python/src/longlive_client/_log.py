"""The log of a session, read by cursor: every event once and in order, across any number of broken connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any, Literal, Union

from ._decode import decode, service_error
from ._errors import ConnectionError, RequestError, ServiceError
from ._generated import EVENTS, AtCapacityError, ChunkEvent, EndedEvent, HeartbeatEvent, RateLimitError, SessionEvent
from ._wire import Wire, backoff

MediaDelivery = Literal["INLINE", "URL", "NONE"]

# So many of the last cursors are remembered, to tell what came twice.
REMEMBERED = 256
FINAL = {"NOT_FOUND", "INVALID_INPUT"}

OnConnection = Callable[[Union[Literal["open", "lost"], HeartbeatEvent]], None]


async def read_log(
    wire: Wire,
    session_id: str,
    *,
    after: str | None = None,
    start: Literal["START", "LIVE"] = "START",
    media: MediaDelivery = "URL",
    viewer: str | None = None,
    on_connection: OnConnection = lambda _: None,
) -> AsyncGenerator[SessionEvent, None]:
    order = _Order(after, 0 if after is None and start == "START" else None)
    attempt = 0
    while True:
        pause = backoff(attempt)
        attempt += 1
        asked = {"id": session_id, "after": after, "from": start, "media": media, "viewer": viewer}
        stream = wire.subscribe("SessionStream", asked)
        try:
            async for told in stream:
                event = _event(told, wire)
                attempt = 0
                if isinstance(event, HeartbeatEvent):
                    on_connection(event)
                if event is None or isinstance(event, HeartbeatEvent) or order.repeats(event):
                    continue
                if order.leaves_out(event):
                    after = order.sure
                    break
                after = event.cursor
                on_connection("open")
                yield order.take(event)
                if isinstance(event, EndedEvent):
                    return
        except ServiceError as error:
            if error.code in FINAL:
                raise
            if isinstance(error, (AtCapacityError, RateLimitError)):
                pause = error.retry_after_seconds
        except (ConnectionError, RequestError):
            pass  # It is made anew.
        finally:
            await stream.aclose()  # type: ignore[attr-defined]
        on_connection("lost")
        await asyncio.sleep(pause)


def _event(told: dict[str, Any], wire: Wire) -> Any:
    """None for a kind of event that this release does not know. Raises the error that a stream ends with."""
    if "code" in told:
        raise service_error(told)
    cls = EVENTS.get(told["__typename"])
    if cls is None:
        return None
    event: Any = decode(cls, told)
    if isinstance(event, ChunkEvent):
        init = event.init and replace(event.init, url=event.init.url and wire.absolute(event.init.url))
        return replace(event, url=event.url and wire.absolute(event.url), init=init)
    if isinstance(event, EndedEvent):
        return replace(event, artifacts=[replace(file, url=wire.absolute(file.url)) for file in event.artifacts])
    return event


class _Order:
    """What a session promises of its order, held against what comes."""

    def __init__(self, sure: str | None, next_chunk: int | None) -> None:
        # The cursor up to which surely nothing is missing: chunks are counted, other events are not.
        self.sure = sure
        self._next = next_chunk
        self._cursors: deque[str] = deque(maxlen=REMEMBERED)
        self._begun = False

    def repeats(self, event: SessionEvent) -> bool:
        if isinstance(event, ChunkEvent) and self._next is not None and event.index < self._next:
            return True
        return event.cursor in self._cursors

    def leaves_out(self, event: SessionEvent) -> bool:
        if self._next is None:
            return False
        if isinstance(event, ChunkEvent):
            return event.index > self._next
        return isinstance(event, EndedEvent) and event.chunks > self._next

    def take(self, event: SessionEvent) -> SessionEvent:
        """A chunk without `init` where an earlier one brought it: every subscription's first one does."""
        self._cursors.append(event.cursor)
        if not isinstance(event, ChunkEvent):
            return event
        self._next = event.index + 1
        self.sure = event.cursor
        again, self._begun = self._begun, True
        return replace(event, init=None) if again else event
