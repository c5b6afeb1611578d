from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Service

import longlive_client as ll
from longlive_client import _generated
from longlive_client._decode import decode, service_error
from longlive_client._log import _Order, read_log
from longlive_client._wire import Wire

PROMPT = "a red fox"


def indexes(events: list[ll.SessionEvent]) -> list[int]:
    return [event.index for event in events if isinstance(event, ll.ChunkEvent)]


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def test_renders_a_film_and_downloads_it(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as live:
            progress: list[float] = []
            film = await live.render(prompt=PROMPT, seed=7, max_seconds=3, on_progress=lambda seconds, of: progress.append(seconds))
            assert (film.facts.state, film.facts.ended, film.facts.seed) == ("COMPLETED", True, "7")
            assert progress[-1] >= 3
            whole = await film.download()
            part = await film.download(from_seconds=0, to_seconds=1)
            assert whole[4:8] == part[4:8] == b"ftyp"
            assert len(part) < len(whole)
            await film.delete()
            with pytest.raises(ll.NotFoundError):
                await film.refresh()

    run(main())


def test_events_come_in_order_with_their_media_and_go_on_by_cursor(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as live:
            session = await live.create(prompt=PROMPT, pace="FASTEST", max_seconds=4)
            events = [event async for event in session.events()]
            assert indexes(events) == list(range((await session.refresh()).chunks))
            first = next(event for event in events if isinstance(event, ll.ChunkEvent))
            assert first.init and (await session.load(first.init))[4:8] == b"ftyp"
            assert len(await session.load(first)) == first.byte_length
            rest = [event async for event in session.events(after=events[3].cursor)]
            assert [event.cursor for event in rest] == [event.cursor for event in events[4:]]
            assert isinstance(rest[-1], ll.EndedEvent)

    run(main())


def test_says_what_became_of_every_prompt(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as live:
            session = await live.create(prompt=PROMPT, pace="FASTEST")
            states: list[str] = []
            session.watch(lambda _: states.append(session.state.status))
            receipt = await session.switch("by day")
            outcome = await receipt.applied
            assert isinstance(outcome, ll.Applied) and outcome.seconds >= 0
            await session.pause()
            assert (session.state.status, session.state.reason) == ("paused", "REQUESTED")
            first, second = await session.switch("one"), await session.switch("two")
            await session.resume()
            assert await first.applied == ll.Superseded(by=second.id)
            assert isinstance(await second.applied, ll.Applied)
            branch = await session.fork(at_seconds=0.1, prompt="in the snow")
            assert branch.facts.parent and branch.facts.parent.session_id == session.id
            await branch.stop()
            late = await session.switch("too late", when="AT_BLOCK", at_block=10_000)
            await session.stop()
            assert await late.applied == ll.Discarded()
            assert (await session.finished()).state == "STOPPED"
            with pytest.raises(ll.SessionEndedError):
                await session.switch("over")
            assert states[-1] == "ended"

    run(main())


def test_prompts_are_planned_moved_and_cancelled_and_every_client_sees_it(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as live, ll.create_client(service.url) as others:
            session = await live.create(prompt=PROMPT, pace="FASTEST")
            async with contextlib.aclosing(session.events(media="NONE")) as events:
                async for event in events:
                    if isinstance(event, ll.ChunkEvent):
                        break
            await session.pause()
            facts = await session.refresh()
            made, each = facts.chunks, facts.seconds / facts.chunks
            near = await session.plan("at dusk", at_block=made + 2)
            far = await session.plan("at night", at_seconds=(made + 4) * each)
            never = await session.plan("in the snow", at_block=made + 5, transition={"chunks": 2})
            assert (far.facts.status, far.facts.at_block) == ("PENDING", made + 4)
            other = await others.session(session.id)
            assert [receipt.facts.prompt for receipt in await other.planned()] == ["at dusk", "at night", "in the snow"]

            moved = await other.move(far, at_block=made + 1, prompt="a starry night")
            assert (moved.id, moved.facts.prompt, moved.facts.at_block) == (far.id, "a starry night", made + 1)
            await other.cancel(never)
            assert await never.applied == ll.Cancelled()
            assert [receipt.id for receipt in await session.planned()] == [far.id, near.id]
            for place in ({"at_seconds": 0}, {}, {"at_seconds": 99, "at_block": 99}):
                with pytest.raises(ll.InvalidInputError):
                    await session.plan("nowhere", **place)
            with pytest.raises(ll.ConflictError):
                await session.move(never, at_block=99)

            await session.resume()
            outcomes = [await far.applied, await near.applied]
            assert [outcome.block for outcome in outcomes if isinstance(outcome, ll.Applied)] == [made + 1, made + 2]
            with pytest.raises(ll.ConflictError):
                await session.cancel(near)
            await session.stop()
            told = [event async for event in other.events(after=facts.cursor, media="NONE")]
            assert [event.receipt_id for event in told if isinstance(event, (ll.MovedEvent, ll.CancelledEvent))] == [far.id, never.id]

    run(main())


def test_nothing_is_generated_far_ahead_of_a_viewer_who_stands_still(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as live:
            session = await live.create(prompt=PROMPT)
            async for event in session.events(viewer="v"):
                if isinstance(event, ll.ChunkEvent):
                    assert await session.acknowledge("v", 0, playing=False)
                if isinstance(event, ll.ChunkEvent) and event.index == 1:
                    break
            await asyncio.sleep(6)
            assert (await session.refresh()).seconds < 4
            with pytest.raises(ll.InvalidInputError):
                await session.acknowledge("", 0)
            await session.stop()

    run(main())


def test_errors_are_of_the_schemas_classes(service: Service) -> None:
    async def main() -> None:
        async with ll.create_client(service.url) as live:
            with pytest.raises(ll.InvalidInputError) as caught:
                await live.create(prompt="")
            assert (caught.value.code, caught.value.field) == ("INVALID_INPUT", "prompt")
            with pytest.raises(ll.NotFoundError):
                [event async for event in live_events(live)]

    async def live_events(live: ll.LiveClient) -> Any:
        session = await live.create(prompt=PROMPT)
        await session.delete()
        async for event in session.events():
            yield event

    run(main())
    full = service_error({"__typename": "AtCapacityError", "code": "AT_CAPACITY", "message": "Full.", "retryAfterSeconds": 3})
    assert isinstance(full, ll.AtCapacityError) and full.retry_after_seconds == 3
    assert type(service_error({"__typename": "NewError", "code": "NEW", "message": "New."})) is ll.ServiceError


def test_it_asks_again_where_there_is_no_room(service: Service) -> None:
    def full(_: httpx.Request) -> httpx.Response:
        told = {"__typename": "AtCapacityError", "code": "AT_CAPACITY", "message": "Full.", "retryAfterSeconds": 0.3}
        return httpx.Response(200, json={"data": {"createSession": told}})

    async def main() -> None:
        waits: list[ll.RoomWait] = []
        async with httpx.AsyncClient(transport=httpx.MockTransport(full)) as http, ll.create_client("http://full", http=http) as live:
            with pytest.raises(ll.AtCapacityError):
                await live.create(prompt=PROMPT, patience_seconds=1, on_wait=waits.append)
        assert waits == [ll.RoomWait(0.3)] * 3

    run(main())


def test_a_stream_that_ends_in_the_middle_of_an_event_is_gone_on_with() -> None:
    def event(name: str, **fields: Any) -> str:
        told = {"__typename": name, "at": "now", **fields}
        return f"event: next\ndata: {json.dumps({'data': {'sessionStream': told}})}\n\n"

    streams = [
        event("StateChanged", cursor="c1", state="LIVE") + event("StateChanged", cursor="c2", state="PAUSED")[:-40],
        event("StateChanged", cursor="c2", state="PAUSED") + event("SessionEnded", cursor="c3", state="STOPPED", chunks=0, artifacts=[]),
    ]

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=streams.pop(0).encode())

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            seen = [event.cursor async for event in read_log(Wire("http://mock", None, http), "s")]
        assert seen == ["c1", "c2", "c3"]

    run(main())


def test_a_token_is_asked_for_again_when_it_is_refused(service: Service) -> None:
    service.stop()
    service.start("new")
    asked: list[str] = []

    async def token() -> str:
        asked.append("old" if not asked else "new")
        return asked[-1]

    async def main() -> None:
        async with ll.create_client(service.url, token=token) as live:
            await live.service()
            await live.service()
            assert asked == ["old", "new"]
        async with ll.create_client(service.url, token="wrong") as stranger:
            with pytest.raises(ll.UnauthorizedError):
                await stranger.service()
        async with ll.create_client(service.url, token="…") as odd:
            with pytest.raises(ll.UnauthorizedError, match="such characters"):
                await odd.service()

    run(main())
    service.stop()
    service.start()


def test_where_nothing_listens_it_says_so() -> None:
    async def main() -> None:
        async with ll.create_client("http://127.0.0.1:9") as live:
            with pytest.raises(ConnectionError, match="cannot be reached"):
                await live.service()

    run(main())


def test_the_example_writes_an_mp4(service: Service, tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "film.py"
    film = tmp_path / "film.mp4"
    subprocess.run([sys.executable, example, PROMPT, film], env={**os.environ, "LONGLIVE_URL": service.url}, check=True, timeout=60)
    assert film.read_bytes()[4:8] == b"ftyp"


def test_what_repeats_is_left_out_and_what_is_missing_is_noticed() -> None:
    def chunk(index: int) -> ll.ChunkEvent:
        values = {field.name: None for field in dataclasses.fields(ll.ChunkEvent)}
        return ll.ChunkEvent(**{**values, "cursor": f"c{index}", "index": index})  # type: ignore[arg-type]

    order = _Order(None, 0)
    order.take(chunk(0))
    assert order.repeats(chunk(0)) and not order.repeats(chunk(1))
    assert order.leaves_out(chunk(2)) and not order.leaves_out(chunk(1))
    assert order.sure == "c0"


def test_answers_become_objects_of_the_generated_classes() -> None:
    told = {"cursor": "c", "at": "now", "state": "FAILED", "failure": {"code": "ENGINE", "message": "broke"}, "later": 1}
    event = decode(_generated.StateEvent, told)
    assert event.failure == ll.Failure("ENGINE", "broke") and event.previous is None
