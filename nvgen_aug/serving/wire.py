"""Wire: how messages travel, one JSON frame each, and how they are checked on arrival.

A frame is a magic word, a version, a length and a JSON object: the message's
name and its fields, checked against the dataclass before anything else sees
them. Nothing is ever unpickled, nothing is allocated by a length that a
stranger names, and arrays travel as raw bytes beside the frame.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from dataclasses import asdict
from dataclasses import fields
from types import NoneType
from types import UnionType
from typing import Any
from typing import TypeVar
from typing import get_args
from typing import get_origin
from typing import get_type_hints

from ..crop import Crop
from ..crop import CropRule
from ..errors import NvgenError
from ..errors import SourceError
from .messages import BY_NAME
from .messages import PROTOCOL
from .messages import Failure
from .messages import Message

MAX_FRAME_BYTES = 1 << 20

_PREFIX = struct.Struct(">4sBI")
_MAGIC = b"nvga"
_HINTS = {kind: get_type_hints(kind) for kind in BY_NAME.values()}

M = TypeVar("M", bound=Message)


def frame(message: Message) -> bytes:
    """A message as it goes over the wire.

    Raises:
        SourceError: if it is larger than a frame may be.
    """
    text = json.dumps([type(message).__name__, asdict(message)], allow_nan=False)
    body = text.encode()
    if len(body) > MAX_FRAME_BYTES:
        msg = f"a message may have {MAX_FRAME_BYTES} bytes, this one has {len(body)}"
        raise SourceError(msg)
    return _PREFIX.pack(_MAGIC, PROTOCOL, len(body)) + body


def parse(body: bytes) -> Message:
    """The message in the body of a frame.

    Raises:
        SourceError: if it is not JSON, or not a message, or a field is of the wrong kind.
    """
    try:
        name, values = json.loads(body)
        kind = BY_NAME[name]
        if not isinstance(values, dict):
            raise TypeError
        if set(values) != {field.name for field in fields(kind)}:
            msg = f"{name} with fields {sorted(values)}"
            raise SourceError(msg)
        hints = _HINTS[kind]
        return kind(**{name: _checked(hints[name], value) for name, value in values.items()})
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        msg = f"not a message: {bytes(body[:60])!r}"
        raise SourceError(msg) from error


def receive(connection: socket.socket, kind: type[M], prefix: bytes = b"") -> M:
    """The next message, which must be of one kind; a `Failure` in its place is raised.

    Args:
        connection: A connected stream socket; its timeout applies to each read.
        kind: What is expected; `Message` takes anything.
        prefix: Bytes of the frame that were read already.

    Raises:
        EOFError: if the other side has gone.
        SourceError: if what comes is not such a message.
    """
    prefix += read_exactly(connection, _PREFIX.size - len(prefix))
    magic, version, length = _PREFIX.unpack(prefix)
    if magic != _MAGIC or length > MAX_FRAME_BYTES:
        msg = f"not a frame of this protocol: {prefix!r}"
        raise SourceError(msg)
    if version != PROTOCOL:
        msg = f"the other side speaks protocol {version}, this one {PROTOCOL}; use one release"
        raise SourceError(msg)
    message = parse(read_exactly(connection, length))
    if isinstance(message, kind):
        return message
    if isinstance(message, Failure):
        raise message.error()
    msg = f"{kind.__name__} was expected, {type(message).__name__} came"
    raise SourceError(msg)


def read_exactly(connection: socket.socket, length: int) -> bytes:
    """So many bytes, taken as they come, so that memory grows only with what really arrives.

    Raises:
        EOFError: if the other side has gone.
    """
    read = bytearray()
    while len(read) < length:
        some = connection.recv(min(length - len(read), 1 << 20))
        if not some:
            msg = f"the other side went after {len(read)} of {length} bytes"
            raise EOFError(msg)
        read += some
    return bytes(read)


def crop_to_json(crop: Crop | CropRule | None) -> str | None:
    """A crop or a rule as JSON."""
    if crop is None:
        return None
    return json.dumps([type(crop).__name__, asdict(crop)], allow_nan=False)


def crop_from_json(text: str | None) -> Crop | CropRule | None:
    """What `crop_to_json` wrote.

    Raises:
        SourceError: if it is neither a crop nor a rule.
    """
    if text is None:
        return None
    try:
        name, values = json.loads(text)
        crop: Crop | CropRule = {"Crop": Crop, "CropRule": CropRule}[name](**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, NvgenError):
            raise
        msg = f"not a crop: {text[:60]!r}"
        raise SourceError(msg) from error
    return crop


def _checked(hint: Any, value: Any) -> Any:
    """A JSON value as the annotation of its field has it, or `TypeError`."""
    if isinstance(hint, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        return _checked(get_args(hint)[0], value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_checked(get_args(hint)[0], item) for item in value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif isinstance(value, hint) and not isinstance(value, bool):
        return value
    raise TypeError
