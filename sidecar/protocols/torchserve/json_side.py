"""A payload that is a JSON document, in which each tensor has its place.

A row's values stand at one path, as nested arrays of the row's shape, as one flat array, or as a bare number where
there is but one; or each value stands at a path of its own. Only numbers are values: text, booleans and null, of
which some readers make numbers too, are refused.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sidecar.protocols.open_inference.contents import Defect, TensorDefect, side_by_side
from sidecar.protocols.torchserve.json_document import Number, read_document, replace_numbers
from sidecar.protocols.torchserve.json_numbers import decode_numbers, encode_number
from sidecar.protocols.torchserve.json_paths import EVERY, Path, follow, is_index, show_path
from sidecar.protocols.torchserve.side import check_rows
from sidecar.tensors import Rows, TensorSpec


@dataclasses.dataclass(frozen=True)
class JsonPlace:
    """Where a tensor stands.

    Args:
        spec: the tensor, FP32 or FP64.
        paths: one for all of a row, or one for each of its values. With a batch axis each has a ``*``.
    """

    spec: TensorSpec
    paths: tuple[Path, ...]

    def numbers(self, document: object, is_batched: bool) -> list[list[Number]]:
        """The values of each row in C order.

        Raises:
            TensorDefect: something else stands there.
        """
        columns = [list(self._column(document, path)) for path in self.paths]
        counts = {len(column) for column in columns}
        if len(counts) > 1:
            raise TensorDefect(Defect.SHAPE, f"tensor {self.spec.name!r} has features of {sorted(counts)} rows")
        check_rows(len(columns[0]), self.spec, is_batched)
        return [[number for part in parts for number in part] for parts in zip(*columns, strict=True)]

    def written(self, columns: Rows, is_batched: bool) -> list[Any]:
        """What is to stand at each of the paths; for each row, where there is a batch axis."""
        if len(self.paths) == 1:
            parts = [columns.reshape(len(columns), *self.spec.row_shape).tolist()]
        else:
            parts = columns.T.tolist()
        return parts if is_batched else [part[0] for part in parts]

    def _column(self, document: object, path: Path) -> Iterator[list[Number]]:
        """What a path leads to, row by row."""
        size = self.spec.row_size // len(self.paths)
        shapes = (self.spec.row_shape, (size,), ()) if len(self.paths) == 1 else ((),)
        for row, value in enumerate(_each(document, path)):
            found = next((flat for shape in shapes if len(flat := list(_flat(value, shape))) == size), None)
            if found is None:
                raise TensorDefect(
                    Defect.SHAPE,
                    f"tensor {self.spec.name!r}, row {row}: at {show_path(path)} stand no {size} numbers in shape "
                    f"{list(shapes[0])}",
                )
            yield found


def _each(document: object, path: Path) -> Sequence[object]:
    """What stands at a path: for each row, where it has a ``*``."""
    if EVERY not in path:
        return [follow(document, path)]
    at = path.index(EVERY)
    rows = follow(document, path[:at])
    if type(rows) is not list:
        raise TensorDefect(Defect.SHAPE, f"at {show_path(path[:at])} stands no array of rows")
    return [follow(row, path[at + 1 :]) for row in rows]


def _flat(value: object, shape: tuple[int, ...]) -> Iterator[Number]:
    """The numbers of nested arrays in C order; too few where the shape is another one."""
    if not shape:
        if type(value) is Number:
            yield value
    elif type(value) is list and len(value) == shape[0]:
        for each in value:
            yield from _flat(each, shape[1:])


@dataclasses.dataclass(frozen=True)
class JsonSide:
    """The places of all tensors of one side, in the signature's order; ``is_batched``: each place has rows."""

    places: tuple[JsonPlace, ...]
    is_batched: bool

    def read(self, payload: bytes) -> Rows:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        return side_by_side([_values(place, numbers) for place, numbers in self._numbers(payload)])

    def replace(self, payload: bytes, changed: npt.NDArray[np.bool_], rows: Rows) -> bytes:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        tensors = [numbers for _, numbers in self._numbers(payload)]
        numbers = [[number for row in rows for number in row] for rows in zip(*tensors, strict=True)]
        places = np.argwhere(changed).tolist()
        return replace_numbers(payload, {numbers[row][at].place: encode_number(rows[row, at]) for row, at in places})

    def write(self, rows: Rows) -> bytes:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        document, start = None, 0
        for place in self.places:
            columns = rows[:, start : start + place.spec.row_size]
            start += place.spec.row_size
            for path, values in zip(place.paths, place.written(columns, self.is_batched), strict=True):
                document = _put(document, path, values)
        return json.dumps(document).encode("utf-8")

    def _numbers(self, payload: bytes) -> list[tuple[JsonPlace, list[list[Number]]]]:
        document = read_document(payload)
        found = [(place, place.numbers(document, self.is_batched)) for place in self.places]
        counts = {place.spec.name: len(numbers) for place, numbers in found}
        if len(set(counts.values())) > 1:
            raise TensorDefect(Defect.SHAPE, f"tensors differ in their number of rows: {counts}")
        return found


def _put(into: Any, path: Path, value: Any) -> Any:
    """A document with a value at a path; ``into`` is what there is of it already, or None."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if step == EVERY:
        rows = into or [None] * len(value)
        return [_put(row, rest, each) for row, each in zip(rows, value, strict=True)]
    if is_index(step):
        elements = into or []
        elements += [None] * (int(step) + 1 - len(elements))
        elements[int(step)] = _put(elements[int(step)], rest, value)
        return elements
    fields = into or {}
    return fields | {step: _put(fields.get(step), rest, value)}


def _values(place: JsonPlace, numbers: list[list[Number]]) -> Rows:
    texts = [number.text for row in numbers for number in row]
    return decode_numbers(texts, place.spec.datatype).reshape(len(numbers), place.spec.row_size)
