"""One continuous generation."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from ._control import Control, Listener, Outcome, State
from ._decode import camel, decode, unwrap
from ._errors import RequestError, ServiceError
from ._generated import (
    ChunkEvent,
    Export,
    InitSegment,
    PlaybackAcknowledged,
    ReceiptFacts,
    RecacheMode,
    SessionEvent,
    SessionFacts,
    SwitchWhen,
)
from ._log import MediaDelivery, read_log
from ._wire import Wire

POLL_SECONDS = 0.3


class _Applied(Awaitable[Outcome]):
    """Nothing is asked until somebody waits."""

    def __init__(self, control: Control, receipt_id: str) -> None:
        self._control, self._id = control, receipt_id

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self._control.outcome(self._id).__await__()


@dataclass(frozen=True)
class Receipt:
    """What the service said to a request for a prompt."""

    facts: ReceiptFacts
    applied: Awaitable[Outcome]
    """What became of the prompt: a value in every case. Raises only when the session cannot be watched any more."""

    @property
    def id(self) -> str:
        return self.facts.id


class Session:
    def __init__(self, wire: Wire, facts: SessionFacts) -> None:
        self._wire = wire
        self.id = facts.id
        self.facts = facts
        """What the service said last; `refresh` asks anew."""
        self._control = Control(wire, facts)

    @property
    def state(self) -> State:
        return self._control.state

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Calls the listener at every event but chunks' bytes, and at every change of `state`. Ends by the function it gives."""
        return self._control.watch(listener)

    def events(
        self,
        *,
        after: str | None = None,
        start: Literal["START", "LIVE"] = "START",
        media: MediaDelivery = "URL",
        viewer: str | None = None,
    ) -> AsyncGenerator[SessionEvent, None]:
        """The log: every event once, in order, across broken connections, until the end. Keep `event.cursor` to go on there by `after`.

        `viewer` is a name of your own for whoever watches, if it says by `acknowledge` how far it has seen.
        """
        return read_log(self._wire, self.id, after=after, start=start, media=media, viewer=viewer)

    async def acknowledge(self, viewer: str, seconds: float, *, playing: bool = True, ahead_seconds: float | None = None) -> bool:
        """For players: how far a viewer has seen, about once a second while the picture moves and whenever it stops or goes elsewhere.

        Generation in real time does not run ahead of that. False when nobody generates the session now.
        """
        variables = {"sessionId": self.id, "viewer": viewer, "seconds": seconds, "playing": playing, "aheadSeconds": ahead_seconds}
        return decode(PlaybackAcknowledged, unwrap(await self._wire.request("AcknowledgePlayback", variables))).heard

    async def load(self, part: ChunkEvent | InitSegment) -> bytes:
        """The bytes of a chunk, or of its `init`."""
        if part.data is not None:
            return base64.b64decode(part.data)
        if part.url is None:
            raise ValueError("This chunk brought no media: ask for the events with another `media` than NONE.")
        return await self._wire.file(part.url)

    async def switch(
        self,
        prompt: str,
        *,
        mode: RecacheMode = "RECACHE",
        transition: Mapping[str, Any] | None = None,
        when: SwitchWhen = "NEXT_BLOCK",
        at_block: int | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Asks for another prompt; answers as soon as the service has taken it. With a transition, as {"chunks": 4}, it comes over so many."""
        key = idempotency_key or str(uuid4())
        variables = {"sessionId": self.id, "prompt": prompt, "mode": mode, "transition": transition, "when": when, "atBlock": at_block, "idempotencyKey": key}
        return await self._receipt("SwitchPrompt", variables)

    async def plan(
        self,
        prompt: str,
        *,
        at_seconds: float | None = None,
        at_block: int | None = None,
        mode: RecacheMode = "RECACHE",
        transition: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """A prompt for a time to come: at_seconds of the video, or at_block. Every client sees it, and may move or cancel it."""
        variables = {"sessionId": self.id, "prompt": prompt, "atSeconds": at_seconds, "atBlock": at_block, "mode": mode, "transition": transition}
        return await self._receipt("PlanPrompt", {**variables, "idempotencyKey": idempotency_key or str(uuid4())})

    async def move(self, receipt: Receipt | str, **changes: Any) -> Receipt:
        """Changes a prompt that waits: prompt, at_seconds or at_block, mode, transition (None for at once). ConflictError once it is being drawn."""
        changed = {camel(name): value for name, value in changes.items()}
        return await self._receipt("MovePrompt", {**changed, "sessionId": self.id, "receiptId": _id_of(receipt)})

    async def cancel(self, receipt: Receipt | str) -> None:
        """Takes back a prompt that waits. ConflictError once it is being drawn."""
        unwrap(await self._wire.request("CancelPrompt", {"sessionId": self.id, "receiptId": _id_of(receipt)}))

    async def planned(self) -> list[Receipt]:
        """The prompts that wait for blocks to come, in their order. The events say when to ask again: requested, moved, cancelled."""
        told = unwrap(await self._wire.request("GetPlanned", {"id": self.id}))
        return [self._receipt_of(decode(ReceiptFacts, facts)) for facts in told["planned"]]

    async def _receipt(self, name: str, variables: dict[str, Any]) -> Receipt:
        return self._receipt_of(decode(ReceiptFacts, unwrap(await self._wire.request(name, variables))))

    def _receipt_of(self, facts: ReceiptFacts) -> Receipt:
        return Receipt(facts, _Applied(self._control, facts.id))

    async def fork(self, **options: Any) -> Session:
        """A new session with the video of this one up to a moment: at_chunk or at_seconds, prompt, mode, transition, pace, max_seconds, max_wait_seconds."""
        variables = {camel(name): value for name, value in {"idempotency_key": str(uuid4()), **options}.items()}
        return Session(self._wire, facts_of(self._wire, await self._wire.request("ForkSession", {**variables, "sessionId": self.id})))

    async def pause(self) -> None:
        await self._command("PauseSession")

    async def resume(self, *, max_wait_seconds: float | None = None) -> None:
        """Where there is no room, it may wait so long; `state` then says at which place."""
        await self._command("ResumeSession", {"maxWaitSeconds": max_wait_seconds})

    async def stop(self) -> None:
        await self._command("StopSession")

    async def update(self, **changes: Any) -> None:
        """Says what people call it (`title`, None: nothing any more), or that they want to find it again (`favourite`)."""
        await self._command("UpdateSession", changes)

    async def delete(self) -> None:
        """Removes it for good, with everything that was generated."""
        unwrap(await self._wire.request("DeleteSession", {"id": self.id}))

    async def refresh(self) -> SessionFacts:
        self.facts = facts_of(self._wire, await self._wire.request("GetSession", {"id": self.id}))
        return self.facts

    async def finished(self) -> SessionFacts:
        """The facts when the session has ended and its files are complete."""
        async for _ in self.events(after=self.facts.cursor, media="NONE"):
            pass
        return await self.refresh()

    async def download(self, *, from_seconds: float | None = None, to_seconds: float | None = None) -> bytes:
        """The MP4, of a session that runs as far as it is."""
        return await self._wire.file(await self.video_url(from_seconds=from_seconds, to_seconds=to_seconds))

    async def video_url(self, *, from_seconds: float | None = None, to_seconds: float | None = None) -> str:
        """Where the MP4 can be fetched for a while, without a token."""
        facts = await self.refresh()
        whole = from_seconds is None and to_seconds is None
        if whole and facts.ended:
            for file in facts.artifacts:
                if file.kind == "MP4":
                    return self._wire.absolute(file.url)
        part = {"sessionId": self.id, "fromSeconds": from_seconds, "toSeconds": to_seconds}
        made = decode(Export, unwrap(await self._wire.request("ExportSession", part)))
        while made.state in ("QUEUED", "RUNNING"):
            await asyncio.sleep(POLL_SECONDS)
            made = decode(Export, unwrap(await self._wire.request("GetExport", {"id": made.id})))
        if made.failure:
            raise ServiceError(made.failure.code, made.failure.message)
        for export in made.files:
            if export.kind == "MP4":
                return self._wire.absolute(export.url)
        raise RequestError("The export was cancelled. Download it again to make it.")

    def close(self) -> None:
        """Ends what waits for its state and its prompts. The session itself goes on."""
        self._control.close()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def _command(self, name: str, more: dict[str, Any] | None = None) -> None:
        self.facts = facts_of(self._wire, await self._wire.request(name, {"id": self.id, **(more or {})}))
        self._control.learn(self.facts)


def _id_of(receipt: Receipt | str) -> str:
    return receipt if isinstance(receipt, str) else receipt.facts.id


def facts_of(wire: Wire, result: dict[str, Any]) -> SessionFacts:
    told = unwrap(result)
    init = told.get("initUrl") and wire.absolute(told["initUrl"])
    return decode(SessionFacts, {**told, "playlistUrl": wire.absolute(told["playlistUrl"]), "initUrl": init})
