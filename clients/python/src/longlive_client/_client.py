from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import uuid4
from weakref import WeakSet

import httpx

from ._admitted import RoomWait, admitted
from ._decode import camel, decode, unwrap
from ._generated import AtCapacityError, ChunkEvent, Model, Pace, RateLimitError, ServiceFacts
from ._session import Session, facts_of
from ._wire import TokenSource, Wire

LEAST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 86_400


class LiveClient:
    def __init__(self, url: str, token: TokenSource = None, http: httpx.AsyncClient | None = None) -> None:
        self._wire = Wire(url, token, http)
        self._sessions: WeakSet[Session] = WeakSet()

    async def create(
        self,
        *,
        prompt: str | None = None,
        timeline: Sequence[dict[str, Any]] | None = None,
        model: str | None = None,
        loras: Sequence[dict[str, Any]] | None = None,
        seed: str | int | None = None,
        width: int | None = None,
        height: int | None = None,
        pace: Pace = "REALTIME",
        max_seconds: float | None = None,
        max_wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        patience_seconds: float = 0,
        on_wait: Callable[[RoomWait], None] = lambda wait: None,
    ) -> Session:
        """Starts a session; answers before anything is generated. Entries of the timeline: prompt, at_seconds or block, mode.

        With `patience_seconds` it answers when there is room, or raises AtCapacityError when there has been none for so long; `on_wait` is told
        the place in the line and about how long it takes. With `max_wait_seconds` instead it answers at once, with a session that may be queued.
        """
        given = {
            **{"prompt": prompt, "model": model, "loras": loras, "width": width, "height": height, "pace": pace},
            **{"seed": None if seed is None else str(seed), "maxSeconds": max_seconds},
            "timeline": timeline and [{camel(name): value for name, value in entry.items()} for entry in timeline],
            "maxWaitSeconds": min(LONGEST_WAIT_SECONDS, patience_seconds) if patience_seconds > 0 else max_wait_seconds,
            "idempotencyKey": idempotency_key or str(uuid4()),
        }
        variables = {"input": {name: value for name, value in given.items() if value is not None}}
        give_up_at = time.monotonic() + patience_seconds
        while True:
            try:
                session = self._open(await self._wire.request("CreateSession", variables))
                return await admitted(session, on_wait) if patience_seconds > 0 else session
            except (AtCapacityError, RateLimitError) as error:
                wait = max(LEAST_WAIT_SECONDS, error.retry_after_seconds)
                if time.monotonic() + wait > give_up_at:
                    raise
                on_wait(RoomWait(wait))
                await asyncio.sleep(wait)

    async def session(self, id: str) -> Session:
        """A session that exists."""
        return self._open(await self._wire.request("GetSession", {"id": id}))

    async def render(self, *, on_progress: Callable[[float, float | None], None] = lambda seconds, of: None, **options: Any) -> Session:
        """Makes a film as fast as the device allows, and answers when it is complete. Told of progress: seconds made, seconds in all."""
        session = await self.create(**{"pace": "FASTEST", **options})
        async for event in session.events(media="NONE"):
            if isinstance(event, ChunkEvent):
                on_progress(event.start_seconds + event.duration_seconds, options.get("max_seconds"))
        await session.refresh()
        return session

    async def sessions(
        self,
        *,
        first: int | None = None,
        after: str | None = None,
        search: str | None = None,
        favourite: bool | None = None,
    ) -> tuple[list[Session], str | None]:
        """Those that are stored, the newest first: a page of them, and what to pass as `after` for the next one. `search`: words of
        the title and of the newest prompts. A page of a search may be short although more follow."""
        wanted = {"first": first, "after": after, "search": search, "favourite": favourite}
        told = unwrap(await self._wire.request("ListSessions", wanted))
        page = told["pageInfo"]
        return [self._open(facts) for facts in told["nodes"]], page["endCursor"] if page["hasNextPage"] else None

    async def models(self) -> list[Model]:
        """Those that sessions can be made with; the default one first."""
        return [decode(Model, told) for told in cast(Any, await self._wire.request("GetModels", {}))]

    async def service(self) -> ServiceFacts:
        return decode(ServiceFacts, await self._wire.request("GetService", {}))

    async def close(self) -> None:
        """Ends everything that waits. Sessions go on."""
        for session in list(self._sessions):
            session.close()
        await self._wire.close()

    async def __aenter__(self) -> LiveClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _open(self, result: dict[str, Any]) -> Session:
        session = Session(self._wire, facts_of(self._wire, result))
        self._sessions.add(session)
        return session


def create_client(url: str, *, token: TokenSource = None, http: httpx.AsyncClient | None = None) -> LiveClient:
    """`url` of the service; `token` a string, or a function that gives one, asked again whenever the service refuses what it gave."""
    return LiveClient(url, token, http)
