"""The client kit of the LongLive service, for asyncio."""

from ._admitted import RoomWait as RoomWait
from ._client import LiveClient as LiveClient
from ._client import create_client as create_client
from ._control import Applied as Applied
from ._control import Cancelled as Cancelled
from ._control import Discarded as Discarded
from ._control import Outcome as Outcome
from ._control import State as State
from ._control import Superseded as Superseded
from ._errors import ClosedError as ClosedError
from ._errors import ConnectionError as ConnectionError
from ._errors import LongLiveError as LongLiveError
from ._errors import RequestError as RequestError
from ._errors import ServiceError as ServiceError
from ._errors import UnauthorizedError as UnauthorizedError
from ._generated import *  # noqa: F403
from ._session import Receipt as Receipt
from ._session import Session as Session
