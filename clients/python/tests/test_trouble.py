"""What goes wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import httpx
import pytest
from conftest import Service
from wild_proxy import WildProxy

import longlive_client as ll
from longlive_client._log import read_log
from longlive_client._wire import Wire

PROMPT = "a red fox"


def indexes(events: list[ll.SessionEvent]) -> list[int]:
    return [event.index for event in events if isinstance(event, ll.ChunkEvent)]


def run(work: Any, seconds: float = 120) -> Any:
    return asyncio.run(asyncio.wait_for(work, seconds))


def test_a_service_that_is_killed_and_started_again_goes_on(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as live:
            session = await live.create(prompt=PROMPT, max_seconds=5)
            seen: list[ll.SessionEvent] = []
            states: set[str] = set()
            session.watch(lambda _: states.add(session.state.status))
            async for event in session.events():
                seen.append(event)
                if isinstance(event, ll.ChunkEvent) and event.index == 1:
                    await asyncio.to_thread(service.stop)
                    await asyncio.to_thread(service.start)
                if isinstance(event, ll.StateEvent) and event.state == "PAUSED":
                    await session.resume()
            assert indexes(seen) == list(range((await session.refresh()).chunks))
            assert "reconnecting" in states

    run(main())


def test_through_a_proxy_that_drops_delays_and_cuts_every_chunk_comes_once(service: Service) -> None:
    async def main() -> None:
        proxy = WildProxy(service.url, delay=0.04, cut_after=6000, drop_one_in=12)
        async with proxy as url, ll.create_client(url) as live:
            session = await live.create(prompt=PROMPT, pace="FASTEST", max_seconds=15)
            events = [event async for event in session.events()]
            assert proxy.cuts > 1 and proxy.dropped > 0
            assert proxy.upgrades == 0  # It asks for no WebSocket, so that none can be refused.
            assert indexes(events) == list(range((await session.refresh()).chunks))

    run(main())


def test_30_s_without_network_lose_nothing(service: Service) -> None:
    async def main() -> None:
        proxy = WildProxy(service.url)
        async with proxy as url, ll.create_client(url) as live:
            session = await live.create(prompt=PROMPT, max_seconds=20)
            seen: list[ll.SessionEvent] = []
            dark: asyncio.Task[None] | None = None
            async for event in session.events():
                seen.append(event)
                if isinstance(event, ll.ChunkEvent) and event.index == 1:
                    dark = asyncio.create_task(proxy.dark(30))
            assert dark and dark.done()
            assert indexes(seen) == list(range((await session.refresh()).chunks))

    run(main())


def test_where_generation_is_half_as_fast_as_playback_the_events_only_come_later(slow_service: str) -> None:
    async def main() -> None:
        async with ll.create_client(slow_service) as live:
            session = await live.create(prompt=PROMPT, max_seconds=5)
            states: list[str] = []
            session.watch(lambda _: states.append(session.state.status))
            events = [event async for event in session.events()]
            chunks = [event for event in events if isinstance(event, ll.ChunkEvent)]
            assert sum(event.generate_milliseconds for event in chunks) > 1000 * sum(event.duration_seconds for event in chunks)
            assert indexes(events) == list(range((await session.refresh()).chunks))
            assert "reconnecting" not in states

    run(main())


def test_two_clients_of_a_session_have_the_same_events_prompts_of_the_other_too(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as one, ll.create_client(service.url) as two:
            mine = await one.create(prompt=PROMPT, pace="FASTEST")
            theirs = await two.session(mine.id)

            async def read(session: ll.Session) -> list[ll.SessionEvent]:
                return [event async for event in session.events()]

            readers = [asyncio.create_task(read(session)) for session in (mine, theirs)]
            receipt = await theirs.switch("a blue robot")
            await receipt.applied
            await mine.stop()
            seen, also = await asyncio.gather(*readers)
            assert [event.cursor for event in seen] == [event.cursor for event in also]
            assert receipt.id in [event.receipt_id for event in seen if isinstance(event, ll.AppliedEvent)]

    run(main())


def test_a_token_that_is_refused_in_the_middle_is_asked_for_anew(service: Service) -> None:
    now = "old"
    asked: list[str] = []

    def token() -> str:
        asked.append(now)
        return now

    async def main() -> None:
        nonlocal now
        async with ll.create_client(service.url, token=token) as live:
            session = await live.create(prompt=PROMPT, max_seconds=5)
            seen: list[ll.SessionEvent] = []
            async with contextlib.aclosing(session.events()) as events:
                async for event in events:
                    seen.append(event)
                    if isinstance(event, ll.ChunkEvent) and event.index == 1:
                        now = "new"
                        await asyncio.to_thread(service.stop)
                        await asyncio.to_thread(service.start, "new")
                    if isinstance(event, ll.StateEvent) and event.state == "PAUSED":
                        await session.resume()
            assert indexes(seen) == list(range((await session.refresh()).chunks))
            assert asked == ["old", "new"]
        async with ll.create_client(service.url, token="wrong") as stranger:
            with pytest.raises(ll.UnauthorizedError):
                await stranger.create(prompt=PROMPT)

    service.stop()
    service.start("old")
    try:
        run(main())
    finally:
        service.stop()
        service.start()


def test_an_event_that_came_damaged_is_asked_for_again() -> None:
    ended = {"__typename": "SessionEnded", "at": "now", "cursor": "c1", "state": "STOPPED", "chunks": 0, "artifacts": []}
    whole = json.dumps({"data": {"sessionStream": ended}})
    streams = [f"event: next\ndata: {data}\n\n" for data in (whole[:-30], "7", whole)]

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=streams.pop(0).encode())

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            seen = [event.cursor async for event in read_log(Wire("http://mock", None, http), "s")]
        assert (seen, streams) == (["c1"], [])

    run(main())
