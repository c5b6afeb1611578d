"""What the kit raises. Errors that the service answers with have classes of their own, made from its schema."""

from __future__ import annotations

import builtins
from typing import Any


class LongLiveError(Exception):
    """Of every error here; `code` is stable, the text is for people."""

    code: str


class ServiceError(LongLiveError):
    """An error that the service told."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        for name, value in more.items():
            setattr(self, name, value)


class UnauthorizedError(LongLiveError):
    """The service asks for another token."""

    code = "UNAUTHORIZED"

    def __init__(self, what: str = "The service does not take this token.") -> None:
        super().__init__(f"{what} Give create_client a valid one as `token`.")


class ConnectionError(LongLiveError, builtins.ConnectionError):
    """The service could not be reached, or the connection broke."""

    code = "CONNECTION"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} Check that the service runs, and that its address is right.")


class RequestError(LongLiveError):
    """The service refused the request itself: a limit, an operation that it does not know, a defect."""

    code = "REQUEST"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ClosedError(LongLiveError):
    """What ends whoever waits when the client or the session is closed."""

    code = "CLOSED"

    def __init__(self) -> None:
        super().__init__("It was closed.")
