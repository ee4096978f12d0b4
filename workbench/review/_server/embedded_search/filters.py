"""Argilla's filters and orders as SQL over Argilla's own tables.

    select(Record.id).where(condition(filter)).order_by(*ordering(orders))

A scope names what a filter looks at: a metadata property, a suggestion, a response, or the record itself. All but the
last may hold several values for a record: a filter holds when one of them fits, an order takes the first in its direction.

Values are found by their key and not by a JSON path: before version 3.45 SQLite compares the letters of a path with those
of the stored JSON, in which "é" is \\u00e9, and a quote in a name ends its path."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any
from uuid import UUID

from argilla_server.enums import ResponseStatusFilter, SortOrder
from argilla_server.models import Question, Record, Response, Suggestion
from argilla_server.search_engine.base import (
    AndFilter,
    Filter,
    FilterScope,
    MetadataFilterScope,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)
from sqlalchemy import Float, String, and_, case, cast, exists, false, func, literal, not_, or_, select, text, true
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause, TableValuedAlias

_NUMBERS = ("integer", "real")


def condition(filter: Filter) -> ColumnElement:
    """Return what must hold of a record. Raises ValueError for a filter that does not fit its scope."""
    if isinstance(filter, AndFilter):
        return and_(true(), *map(condition, filter.filters))
    if isinstance(filter.scope, RecordFilterScope):
        return _record_condition(filter)
    if isinstance(filter.scope, ResponseFilterScope) and not filter.scope.question:
        return _status_condition(filter)
    found = _values(filter.scope)
    return found.any(_json_test(filter, found) if found.kind is not None else _text_test(filter, found.value))


def ordering(orders: Sequence[Order]) -> list[ColumnElement]:
    """Return the terms of an ORDER BY. What has no value comes last, whether up or down."""
    terms: list[ColumnElement] = []
    for order in orders:
        is_down = order.order == SortOrder.desc
        value = _sorted_by(order.scope, is_down)
        terms += [value.is_(None), value.desc() if is_down else value.asc()]
    return terms


def among(ids: Iterable[str]) -> ColumnElement:
    """Return that a record is one of these, as one parameter: SQLite takes 32,766 at most."""
    each = func.json_each(literal(json.dumps(list(ids)), String)).table_valued("value", name="among")
    return Record.id.in_(select(text("value")).select_from(each))


# --- the values of a scope ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Values:
    """What a scope holds of a record: `value` in each row of `tables` that is `where`; `kind` is its type, if it is JSON."""

    tables: tuple[FromClause, ...]
    where: ColumnElement
    value: ColumnElement
    kind: ColumnElement | None = None

    def any(self, *test: ColumnElement) -> ColumnElement:
        """Return that some value of the record passes the test, or that there is one."""
        return exists(select(literal(1)).select_from(joined(*self.tables)).where(self.where, *test).correlate(Record))

    def one(self, pick: ColumnElement) -> ColumnElement:
        """Return what `pick` makes of the record's values."""
        return select(pick).select_from(joined(*self.tables)).where(self.where).correlate(Record).scalar_subquery()


def joined(*tables: FromClause) -> FromClause:
    """Return the tables side by side, each of which may speak of those before it."""
    return reduce(lambda left, right: left.join(right, true()), tables)


def metadata(name: str) -> Values:
    """Return the values of a metadata property: one, or those of a list."""
    top = func.json_each(valid(Record.metadata_)).table_valued("key", "value", "type", name="top")
    each = _each(case((top.c.type == "array", top.c.value), else_=func.json_array(top.c.value)))
    return Values((top, each), top.c.key == name, each.c.atom, each.c.type)


def valid(column: Any) -> ColumnElement:
    """Return the JSON of a column, nothing where it is none: Python writes Infinity, on which SQLite would fail the whole query."""
    return case((func.json_valid(column) == 1, column), else_=None)


def _each(column: Any, *path: str) -> TableValuedAlias:
    return func.json_each(column, *path).table_valued("atom", "type", name="each")


def _values(scope: FilterScope) -> Values:
    if isinstance(scope, MetadataFilterScope):
        return metadata(scope.metadata_property)
    if isinstance(scope, SuggestionFilterScope):
        return _of_suggestions(scope)
    if isinstance(scope, ResponseFilterScope):
        return _of_responses(scope)
    raise ValueError(f"{scope} is no scope that can be searched")


def _of_suggestions(scope: SuggestionFilterScope) -> Values:
    asked = (Suggestion.__table__, Question.__table__)
    where = and_(
        Suggestion.record_id == Record.id,
        Question.id == Suggestion.question_id,
        Question.dataset_id == Record.dataset_id,
        Question.name == scope.question,
    )
    match scope.property:
        case "agent":
            return Values(asked, where, Suggestion.agent)
        case "type":
            return Values(asked, where, cast(Suggestion.type, String))
        case "value" | "score":
            each = _each(valid(Suggestion.value if scope.property == "value" else Suggestion.score))
            return Values((*asked, each), where, each.c.atom, each.c.type)
    raise ValueError(f"a suggestion has no {scope.property!r} that can be searched")


def _of_responses(scope: ResponseFilterScope) -> Values:
    table, where = Response.__table__, Response.record_id == Record.id
    if scope.user is not None:
        where = and_(where, Response.user_id == scope.user.id)
    if not scope.question:
        if scope.property != "status":
            raise ValueError(f"a response has no {scope.property!r} that can be searched")
        return Values((table,), where, cast(Response.status, String))
    answer = func.json_each(valid(Response.values)).table_valued("key", "value", name="answer")
    each = _each(answer.c.value, "$.value")
    return Values((table, answer, each), and_(where, answer.c.key == scope.question), each.c.atom, each.c.type)


# --- filters --------------------------------------------------------------------------------------------------------


def _json_test(filter: Filter, found: Values) -> ColumnElement:
    is_number = found.kind.in_(_NUMBERS)
    if isinstance(filter, RangeFilter):
        # A number in quotes is one too, as for Elasticsearch; SQLite would take any other text for 0.
        is_written = and_(found.value.op("GLOB")("*[0-9]*"), not_(found.value.op("GLOB")("*[^-+.eE0-9]*")))
        return and_(or_(is_number, is_written), *_bounds(cast(found.value, Float), filter, float))
    numbers = [number for number in map(_number, filter.values) if number is not None]
    return or_(cast(found.value, String).in_(filter.values), and_(is_number, found.value.in_(numbers)))


def _text_test(filter: Filter, value: ColumnElement) -> ColumnElement:
    if isinstance(filter, TermsFilter):
        return value.in_([str(wanted) for wanted in filter.values])
    return and_(value.is_not(None), *_bounds(value, filter, str))


def _status_condition(filter: Filter) -> ColumnElement:
    """No response (of that user, if there is one) is the status "pending"; several statuses are "or", and none is all."""
    found = _values(filter.scope)
    if not isinstance(filter, TermsFilter):
        raise ValueError("a status is one of some names: ask for it with a filter of terms")
    wanted = {str(getattr(status, "value", status)) for status in filter.values}
    if not wanted:
        return found.any() if filter.scope.user is not None else true()
    tests = [not_(found.any())] if ResponseStatusFilter.pending.value in wanted else []
    if answered := wanted - {ResponseStatusFilter.pending.value}:
        tests.append(found.any(found.value.in_(answered)))
    return or_(*tests)


def _record_condition(filter: Filter) -> ColumnElement:
    name = _name(filter.scope)
    match name:
        case "id":
            if not isinstance(filter, TermsFilter):
                raise ValueError("an id has no order: ask for it with a filter of terms")
            ids = [identity for identity in map(_uuid, filter.values) if identity is not None]
            return Record.id.in_(ids) if ids else false()
        case "inserted_at" | "updated_at":
            column = getattr(Record, name)
            if isinstance(filter, TermsFilter):
                return column.in_([_time(value) for value in filter.values])
            return and_(true(), *_bounds(column, filter, _time))
        case "status":
            return _text_test(filter, cast(Record.status, String))
        case "external_id":
            return _text_test(filter, Record.external_id)
    raise ValueError(f"a record has no {name!r} that can be searched")


def _bounds(column: ColumnElement, filter: RangeFilter, convert: Callable[[Any], Any]) -> list[ColumnElement]:
    low = [column >= convert(filter.ge)] if filter.ge is not None else []
    return low + ([column <= convert(filter.le)] if filter.le is not None else [])


def _name(scope: RecordFilterScope) -> str:
    return str(getattr(scope.property, "value", scope.property))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _time(value: Any) -> datetime:
    """Return a time in UTC without its zone, as the tables hold them: of milliseconds, an ISO date, a month or a year."""
    try:
        if isinstance(value, int | float):
            found = datetime.fromtimestamp(value / 1000, UTC)
        else:
            written = str(value).strip()
            found = datetime.fromisoformat(
                written + "0000-01-01"[len(written) :] if len(written) in (4, 7) else written
            )
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{value!r} is no time. Give one such as 2025-03-11T09:30:00.") from error
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


# --- orders ---------------------------------------------------------------------------------------------------------


def _sorted_by(scope: FilterScope, is_down: bool) -> ColumnElement:
    if isinstance(scope, RecordFilterScope):
        return getattr(Record, _name(scope))
    found = _values(scope)
    first = (func.max if is_down else func.min)(found.value)
    if not isinstance(scope, ResponseFilterScope) or found.kind is None:
        return found.one(first)
    # Several people's numbers are sorted by their mean, as Elasticsearch does; labels have none.
    all_numbers = func.min(case((found.kind.in_(_NUMBERS), 1), else_=0)) == 1
    return found.one(case((all_numbers, func.avg(found.value)), else_=first))
