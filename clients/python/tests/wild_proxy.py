"""What lies between a client and the service."""

from __future__ import annotations

import asyncio
import contextlib
import random


class WildProxy:
    """Loses events of the service, delays what it sends, cuts connections after so many bytes, or lets nothing through."""

    def __init__(self, url: str, delay: float = 0, cut_after: float = float("inf"), drop_one_in: float = float("inf")) -> None:
        self._port = int(url.rsplit(":", 1)[-1])
        self._delay, self._cut_after, self._drop_one_in = delay, cut_after, drop_one_in
        self._light = asyncio.Event()
        self._light.set()
        self.cuts = self.dropped = self.upgrades = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def lead_to(self, url: str) -> None:
        """From now on to another service."""
        self._port = int(url.rsplit(":", 1)[-1])

    async def dark(self, seconds: float) -> None:
        self._light.clear()
        await asyncio.sleep(seconds)
        self._light.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service, client = await asyncio.open_connection("127.0.0.1", self._port)
        up = asyncio.create_task(self._pass(reader, client, float("inf")))
        await self._pass(service, writer, self._cut_after, delay=self._delay, parts=_Parts())
        up.cancel()
        for end in (client, writer):
            end.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, left: float, delay: float = 0, parts: _Parts | None = None) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(1500):
                if parts is None:
                    self.upgrades += b"upgrade: websocket" in piece.lower()
                elif self._drop_one_in < float("inf"):
                    piece = b"".join(part for part, is_event in parts.split(piece) if not (is_event and self._loses()))
                await self._light.wait()
                await asyncio.sleep(random.uniform(0, delay))
                target.write(piece[: int(min(left, len(piece)))])
                left -= len(piece)
                if left <= 0:
                    self.cuts += 1
                    return

    def _loses(self) -> bool:
        loses = random.random() < 1 / self._drop_one_in
        self.dropped += loses
        return loses


class _Parts:
    """The bytes of a service's side of a connection, one chunk of a stream of events at a time; others as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._streams = False

    def split(self, piece: bytes) -> list[tuple[bytes, bool]]:
        self._rest += piece
        if not self._streams:
            head, found, _ = self._rest.partition(b"\r\n\r\n")
            if b"content-type: text/event-stream" not in head.lower() or not found:
                whole, self._rest = self._rest, b""
                return [(whole, False)]
            self._streams, self._rest = True, self._rest[len(head) + 4 :]
            return [(head + found, False), *self._chunks()]
        return self._chunks()

    def _chunks(self) -> list[tuple[bytes, bool]]:
        chunks: list[tuple[bytes, bool]] = []
        while b"\r\n" in self._rest:
            size = self._rest.index(b"\r\n") + 4 + int(self._rest[: self._rest.index(b"\r\n")], 16)
            if len(self._rest) < size:
                break
            chunk, self._rest = self._rest[:size], self._rest[size:]
            chunks.append((chunk, b"event: next" in chunk))
        return chunks
