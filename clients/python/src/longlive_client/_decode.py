"""Answers of the service as objects: camelCase becomes snake_case, objects become those of the generated classes."""

from __future__ import annotations

import dataclasses
import re
import types
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from . import _generated
from ._errors import RequestError, ServiceError

T = TypeVar("T")


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def decode(cls: type[T], told: dict[str, Any]) -> T:
    """Fields that a later service has are left out."""
    hints = _hints(cast(Any, cls))
    values = {snake(name): value for name, value in told.items()}
    names = [field.name for field in dataclasses.fields(cast(Any, cls))]
    return cls(**{name: _value(hints[name], values.get(name)) for name in names})


def service_error(told: dict[str, Any]) -> ServiceError:
    """Of the class that the schema names; of one that this release does not know, its code and message."""
    cls = _generated.ERRORS.get(told.get("__typename", ""), ServiceError)
    more = {snake(name): value for name, value in told.items() if name not in ("__typename", "code", "message")}
    return cls(told["code"], told["message"], **more)


def unwrap(result: dict[str, Any] | None) -> dict[str, Any]:
    """A member of a result union: what was asked for, or else the error is raised."""
    if result is None:
        raise RequestError("The service gave no answer.")
    if "code" in result and "message" in result:
        raise service_error(result)
    return result


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) in (Union, types.UnionType):
        return _value(next(part for part in get_args(hint) if part is not type(None)), value)
    if get_origin(hint) is list:
        return [_value(get_args(hint)[0], item) for item in value]
    return decode(cast(Any, hint), value) if dataclasses.is_dataclass(hint) else value
