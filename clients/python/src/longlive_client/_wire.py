"""GraphQL over HTTP, subscriptions over server-sent events, and files."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, Union

import httpx

from ._errors import ConnectionError, RequestError, UnauthorizedError
from ._generated import OPERATIONS

T = TypeVar("T")

TokenSource = Union[str, Callable[[], Union[str, None, Awaitable[Union[str, None]]]], None]

# In a header.
SENDABLE = re.compile(r"[\x21-\x7e]*")
# Requests carry keys, so that one whose answer was lost may be sent again.
ATTEMPTS = 3
# The service says at least every few seconds that it is there.
SILENCE_SECONDS = 40.0


def backoff(attempt: int) -> float:
    """Seconds until the next attempt: longer each time, and no two clients at once."""
    return min(8.0, 0.25 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1)


class Wire:
    def __init__(self, url: str, token: TokenSource, http: httpx.AsyncClient | None) -> None:
        self.base = url if url.endswith("/") else url + "/"
        self._source = token
        self._token: str | None = None
        self._asked = False
        self._http = http or httpx.AsyncClient(timeout=httpx.Timeout(15, read=60))
        self._owned = http is None

    def absolute(self, url: str) -> str:
        return str(httpx.URL(self.base).join(url))

    async def close(self) -> None:
        if self._owned:
            await self._http.aclose()

    async def request(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        async def send() -> dict[str, Any]:
            async with self._post(name, variables, "application/json") as response:
                await response.aread()
                try:
                    answer = response.json()
                except ValueError:
                    answer = {}
            data, errors = answer.get("data"), answer.get("errors")
            if errors or not data:
                raise _refusal(response.status_code, errors)
            result: dict[str, Any] = next(iter(data.values()))
            return result

        return await _again(send)

    async def file(self, url: str) -> bytes:
        async def fetch() -> bytes:
            response = await self._http.get(self.absolute(url))
            if response.status_code >= 400:
                raise _refusal(response.status_code)
            return response.content

        return await _again(fetch)

    async def subscribe(self, name: str, variables: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """What the subscription brings until it completes. Raises ConnectionError where it breaks before."""
        try:
            async with self._post(name, variables, "text/event-stream") as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    await response.aread()
                    raise _refusal(response.status_code, _errors_in(response))
                event, data = "", ""
                async for line in response.aiter_lines():
                    if line.startswith("event:"):
                        event = line[6:].strip()
                    elif line.startswith("data:"):
                        data = line[5:]
                    elif line == "":  # Only what came to its end counts: a connection may break anywhere.
                        if event == "complete":
                            return
                        if event == "next" and data:
                            yield _brought(data)
                        event, data = "", ""
        except httpx.TransportError as error:
            raise ConnectionError("The stream broke.") from error
        raise ConnectionError("The stream broke.")

    def _post(self, name: str, variables: dict[str, Any], accept: str) -> _Posted:
        return _Posted(self, name, variables, accept)

    async def _current(self) -> str | None:
        if not self._asked:
            source = self._source() if callable(self._source) else self._source
            token = await source if inspect.isawaitable(source) else source
            if token is not None and not SENDABLE.fullmatch(token):
                raise UnauthorizedError("No token has such characters.")
            self._token = token
            self._asked = True
        return self._token

    def _refuse(self, token: str | None) -> None:
        if self._token == token:
            self._asked = False


class _Posted:
    """A response that is open; where the service refuses the token, another one is asked for, once."""

    def __init__(self, wire: Wire, name: str, variables: dict[str, Any], accept: str) -> None:
        self._wire, self._accept = wire, accept
        self._body = {"query": OPERATIONS[name], "operationName": name, "variables": variables}
        self._response: httpx.Response | None = None

    async def __aenter__(self) -> httpx.Response:
        for last in (False, True):
            token = await self._wire._current()
            headers = {"accept": self._accept, **({"authorization": f"Bearer {token}"} if token else {})}
            http = self._wire._http
            timeout = httpx.Timeout(15, read=SILENCE_SECONDS)
            request = http.build_request("POST", self._wire.absolute("graphql"), json=self._body, headers=headers, timeout=timeout)
            self._response = await http.send(request, stream=True)
            if self._response.status_code != 401:
                break
            await self._response.aclose()
            self._wire._refuse(token)
            if last:
                raise UnauthorizedError
        assert self._response is not None
        return self._response

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            await self._response.aclose()


async def _again(work: Callable[[], Awaitable[T]]) -> T:
    """Sends again what the network lost, or a gateway has no service for."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await work()
        except httpx.TransportError as error:
            if attempt == ATTEMPTS:
                raise ConnectionError("The service cannot be reached.") from error
        except RequestError as error:
            if error.status not in (502, 503) or attempt == ATTEMPTS:
                raise
        await asyncio.sleep(0.25 * 2**attempt)
    raise AssertionError


def _brought(data: str) -> dict[str, Any]:
    try:
        answer = json.loads(data)
        if answer.get("data"):
            told: dict[str, Any] = next(iter(answer["data"].values()))
            return told
    except (ValueError, AttributeError) as error:
        raise ConnectionError("The stream was damaged.") from error
    raise _refusal(200, answer.get("errors"))


def _errors_in(response: httpx.Response) -> list[dict[str, Any]] | None:
    try:
        errors: list[dict[str, Any]] | None = response.json().get("errors")
        return errors
    except (ValueError, AttributeError):
        return None


def _refusal(status: int, errors: list[dict[str, Any]] | None = None) -> RequestError:
    return RequestError(errors[0]["message"] if errors else f"The service answered {status}.", status)
