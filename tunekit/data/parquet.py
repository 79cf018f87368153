"""The columns and the number of rows of a Parquet file, from its footer alone: PyArrow takes longer to be imported.

The footer is a Thrift struct in the compact protocol: https://github.com/apache/parquet-format (FileMetaData) and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"PAR1"
LARGEST_FOOTER = 64 * 2**20
DEEPEST = 16

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
SCHEMA, NUM_ROWS = 2, 3
"""Fields of FileMetaData."""

NAME, CHILDREN = 4, 5
"""Fields of SchemaElement."""


def parquet_shape(path: Path) -> tuple[list[str], int]:
    """The names of the columns, and how many rows there are. Raises TunekitError, exit code 4, for another file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8))
            end = file.read(8)
            length = int.from_bytes(end[:4], "little")
            whole = end[4:] == MAGIC and 0 < length <= min(LARGEST_FOOTER, size - 8)
            file.seek(size - 8 - length if whole else size)
            return _read(file.read(length))
    except OSError as error:
        raise TunekitError(f"{path} cannot be read: {error.strerror}", code=Exit.DATA) from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        message = f"{path} is no Parquet file, or it is cut off"
        raise TunekitError(message, "write it anew, or as JSON Lines", Exit.DATA) from None


def _read(footer: bytes) -> tuple[list[str], int]:
    found = _Compact(footer).struct(until=NUM_ROWS)
    root, *elements = found[SCHEMA]
    names: list[str] = []
    place = 0
    for _ in range(root[CHILDREN]):
        names.append(elements[place][NAME].decode())
        left = 1
        while left:  # what lies within a column comes behind it, depth first
            left += elements[place].get(CHILDREN, 0) - 1
            place += 1
    return names, found[NUM_ROWS]


class _Compact:
    """Reads values of the compact protocol, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, until: int = 0, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct by their numbers; no further than the field `until`."""
        if depth > DEEPEST:
            raise ValueError
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._whole()
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
            if number == until:
                break
        return fields

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 70:
                raise ValueError

    def _whole(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _bytes(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise ValueError
        self._at += length
        return self._data[self._at - length : self._at]

    def _value(self, kind: int, depth: int) -> Any:
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == STRUCT:
            return self.struct(depth=depth + 1)
        if kind in (LIST, SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > len(self._data):
                raise ValueError
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == DOUBLE:
            return self._bytes(8)
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind in (4, 5, 6):
            return self._whole()
        raise ValueError
