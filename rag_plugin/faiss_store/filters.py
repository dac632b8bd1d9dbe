"""Metadata filters over all nodes at once.

The metadata of a generation is kept by key, as a column of codes with the distinct values beside it. A filter
is asked of each distinct value, by the very function that LlamaIndex's own stores use, and the codes spread the
answer over the nodes: what a filter means is LlamaIndex's, and 50,000 nodes cost what their distinct values cost.
(SQL over the JSON took some 60 ms on as many nodes, and has another idea of types.)
"""

from __future__ import annotations

import json
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from ..errors import StoreError, UnsupportedQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .sqlite.database import Database

_ORDERED = {
    FilterOperator.EQ: np.equal,
    FilterOperator.NE: np.not_equal,
    FilterOperator.GT: np.greater,
    FilterOperator.GTE: np.greater_equal,
    FilterOperator.LT: np.less,
    FilterOperator.LTE: np.less_equal,
}
_EXACT = 2**53  # whole numbers up to here are the same as floats
_MISSING = 0  # the code of a key that is not there, or is null
_REMEMBERED = 256  # answers to whole filters
_REMEMBERED_BYTES = 32 * 2**20


class _Column:
    """One key: a code for each row, and what the codes stand for."""

    def __init__(self) -> None:
        self.values: list[Any] = [None]
        self._codes: dict[Any, int] = {}
        self.rows = np.zeros(0, dtype=np.int32)
        self._numbers: NDArray[np.float64] | None = None

    def code(self, value: Any) -> int:
        if value is None:
            return _MISSING
        # True, 1 and 1.0 are one and the same to a dict, and not to a reader of the text.
        name = (type(value), value) if isinstance(value, (str, int, float)) else (None, json.dumps(value))
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self.values)
            self.values.append(value)
            self._numbers = None
        return code

    def numbers(self) -> NDArray[np.float64] | None:
        """The distinct values as floats, if all are numbers that a float holds exactly."""
        if self._numbers is None:
            present = self.values[1:]
            fits = all(_is_number(value) for value in present)
            self._numbers = np.asarray([0.0, *present] if fits else [], dtype=np.float64)
        return self._numbers if len(self._numbers) == len(self.values) else None

    def passing(self, filter_: MetadataFilter, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the distinct values the filter lets through; it is asked of those only that a node has."""
        compare = _ORDERED.get(filter_.operator)
        if compare is not None and _is_number(filter_.value) and len(self.values) > 64:
            numbers = self.numbers()
            if numbers is not None:
                found = compare(numbers, float(filter_.value))
                found[_MISSING] = filter_.operator == FilterOperator.NE
                return found  # type: ignore[no-any-return]
        values = self.values
        one = MetadataFilters(filters=[filter_])
        passes = build_metadata_filter_fn(lambda code: {filter_.key: values[int(code)]}, one)
        found = np.zeros(len(values), dtype=bool)
        for code in np.bincount(self.rows[alive], minlength=len(values)).nonzero()[0].tolist():
            found[code] = passes(code)
        return found


class Columns:
    """The metadata of one generation, by key, as far as filters have asked for it."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._rows = np.zeros(0, dtype=np.int64)  # ascending
        self._alive = np.zeros(0, dtype=bool)
        self._columns: dict[str, _Column] = {}
        self._answers: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()  # bits by row number
        self._lock = Lock()

    def catch_up(self, database: Database, removed: Sequence[int]) -> None:
        """Take in the nodes written since, and let go of the removed ones."""
        with self._lock:
            self._answers.clear()
            if not self._columns:
                return  # nobody has filtered yet
            self._extend(database)
            if removed:
                places = np.searchsorted(self._rows, removed)
                places[places == len(self._rows)] = 0
                here = places[self._rows[places] == np.asarray(removed)] if len(self._rows) else places[:0]
                self._alive[here] = False

    def mask(self, database: Database, filters: MetadataFilters) -> NDArray[np.bool_]:
        """By row number, which nodes the filters let through. `database` is in the snapshot that is caught up with.

        Raises:
            UnsupportedQuery: A filter has an operator or condition that LlamaIndex does not know.
            StoreError: A filter's value does not fit the metadata.
        """
        name = json.dumps(filters.model_dump(), default=str)
        with self._lock:
            packed = self._answers.get(name)
            if packed is not None:
                self._answers.move_to_end(name)
                return np.unpackbits(packed).view(bool)
            self._ensure(database, filters)
            passing = self._rows[self._evaluate(filters) & self._alive]
            found = np.zeros(int(self._rows[-1]) + 1 if len(self._rows) else 0, dtype=bool)
            found[passing] = True
            self._answers[name] = np.packbits(found)
            while len(self._answers) > max(1, min(_REMEMBERED, _REMEMBERED_BYTES // max(1, len(found) // 8))):
                self._answers.popitem(last=False)
            return found

    def _ensure(self, database: Database, filters: MetadataFilters) -> None:
        """Have a column for each key that the filters name."""
        missing = {key: _Column() for key in _keys(filters) if key not in self._columns}
        if missing or not self._columns:
            rows = self._read(database, 0, missing)
            # Rows that were removed are not in SQLite any more; the columns from before still have them.
            kept = np.isin(self._rows, rows)
            for column in self._columns.values():
                column.rows = column.rows[kept]
            self._columns.update(missing)
            self._rows, self._alive = rows, np.ones(len(rows), dtype=bool)

    def _extend(self, database: Database) -> None:
        """Take in the rows that came since."""
        last = int(self._rows[-1]) if len(self._rows) else 0
        new = self._read(database, last, self._columns)
        self._rows = np.concatenate([self._rows, new])
        self._alive = np.concatenate([self._alive, np.ones(len(new), dtype=bool)])

    def _read(self, database: Database, after: int, columns: dict[str, _Column]) -> NDArray[np.int64]:
        """Append what these columns have in later rows; all of them, or none if it fails."""
        rows = array("q")
        new = {key: array("i") for key in columns}
        for row, text in database.metadata_after(self.generation, after):
            rows.append(row)
            metadata = json.loads(text)
            for key, column in columns.items():
                new[key].append(column.code(metadata.get(key)))
        for key, column in columns.items():
            column.rows = np.concatenate([column.rows, np.asarray(new[key], dtype=np.int32)])
        return np.asarray(rows, dtype=np.int64)

    def _evaluate(self, filters: MetadataFilters) -> NDArray[np.bool_]:
        parts = [self._evaluate(one) if isinstance(one, MetadataFilters) else self._one(one) for one in filters.filters]
        if not parts:
            return np.ones(len(self._rows), dtype=bool)
        condition = filters.condition or FilterCondition.AND
        if condition == FilterCondition.AND:
            return np.logical_and.reduce(parts)  # type: ignore[no-any-return]
        if condition == FilterCondition.OR:
            return np.logical_or.reduce(parts)  # type: ignore[no-any-return]
        if condition == FilterCondition.NOT:
            return ~np.logical_or.reduce(parts)
        raise UnsupportedQuery(f"filters cannot be joined by {condition!r}")

    def _one(self, filter_: Any) -> NDArray[np.bool_]:
        column = self._columns[filter_.key]
        try:
            passing = column.passing(filter_, self._alive)
        except ValueError as error:
            raise UnsupportedQuery(
                f"the filter on {filter_.key!r} is not one that LlamaIndex knows: {error}"
            ) from error
        except TypeError as error:
            raise StoreError(f"the filter on {filter_.key!r} does not fit the metadata: {error}") from error
        return passing[column.rows]  # type: ignore[no-any-return]


def restricts(filters: MetadataFilters | None) -> bool:
    """Whether there is a filter at all."""
    return filters is not None and bool(filters.filters)


def _keys(filters: MetadataFilters) -> set[str]:
    found: set[str] = set()
    for one in filters.filters:
        found |= _keys(one) if isinstance(one, MetadataFilters) else {one.key}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _EXACT
