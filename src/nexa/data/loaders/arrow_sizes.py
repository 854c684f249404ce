"""What an Arrow file's packed columns unpack to, as they say themselves, before any is unpacked.

Arrow unpacks a batch as a whole, so a bomb has to be known by its own words: each packed buffer
begins with the length of what is in it. The rest of this is where buffers are listed, in the
flatbuffers of a message.

Source: the Arrow columnar format, "Serialization and Interprocess Communication", and its
Message.fbs.
"""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa

# Positions of fields in their flatbuffer tables.
_HEADER = 2  # Message: schema, dictionary or record batch
_BATCH = 1  # DictionaryBatch: the record batch in it
_BUFFERS, _COMPRESSION = 2, 3  # RecordBatch
_LENGTH_BYTES = 8
_NOT_PACKED = -1  # the "length" of a buffer that is longer when it is packed


def declared_bytes(data: Any) -> int:
    """How many bytes the batches of a stream of messages say that they hold.

    A message that makes no sense counts as nothing: reading it is what tells.
    """
    total = 0
    reader = pa.ipc.MessageReader.open_stream(data)
    try:
        for message in reader:
            total += _of_message(message)
    except (pa.ArrowException, OSError):
        return total  # it breaks off here, or a file's footer begins
    return total


def _of_message(message: Any) -> int:
    try:
        return _of_batch(bytes(message.metadata), message.type, message.body)
    except (struct.error, IndexError):
        return 0


def _of_batch(told: bytes, kind: str, body: Any) -> int:
    if kind not in ("record batch", "dictionary"):
        return 0
    batch = _table(told, _field(told, _u32(told, 0), _HEADER))
    if kind == "dictionary":
        batch = _table(told, _field(told, batch, _BATCH))
    if not _field(told, batch, _COMPRESSION):
        return int(body.size)
    listed = _table(told, _field(told, batch, _BUFFERS))
    total = 0
    for number in range(_u32(told, listed)):
        offset, length = struct.unpack_from("<qq", told, listed + 4 + 16 * number)
        if length >= _LENGTH_BYTES and 0 <= offset <= body.size - _LENGTH_BYTES:
            (unpacked,) = struct.unpack("<q", body.slice(offset, _LENGTH_BYTES).to_pybytes())
            total += length if unpacked == _NOT_PACKED else max(unpacked, 0)
    return total


def _field(told: bytes, table: int, number: int) -> int:
    """Where a table's field is; 0 if it has none."""
    entries = table - struct.unpack_from("<i", told, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", told, entries)[0]:
        return 0
    offset: int = struct.unpack_from("<H", told, entries + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _table(told: bytes, place: int) -> int:
    """Where the table or list begins that a field points to."""
    return place + _u32(told, place)


def _u32(told: bytes, place: int) -> int:
    value: int = struct.unpack_from("<I", told, place)[0]
    return value
