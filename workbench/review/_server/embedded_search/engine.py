"""The search engine that argilla-server asks for, answering from the database that argilla-server writes."""

import asyncio
import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.models import Dataset, Field, MetadataProperty, Record, Response, Suggestion, User, VectorSettings
from argilla_server.search_engine.base import (
    Filter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataMetrics,
    Order,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)
from argilla_server.settings import settings
from sqlalchemy import Float, Select, String, and_, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.sql.elements import ColumnElement

from embedded_search import filters
from embedded_search.text_index import TextIndex
from embedded_search.vectors import VectorIndex

NAME = "embedded"
_AT_ONCE = 5_000  # rows read into an index in one query

# Both hold every column that the question "what has changed?" reads; the tables' own rows are long, with images in them.
COVERING = (
    "CREATE INDEX IF NOT EXISTS embedded_search_records ON records(dataset_id, updated_at, id)",
    "CREATE INDEX IF NOT EXISTS embedded_search_vectors ON vectors(vector_settings_id, updated_at, record_id)",
)
_RECORDS = (
    "SELECT id, updated_at FROM records WHERE dataset_id = :owner",
    "SELECT id, updated_at, fields FROM records WHERE id IN (SELECT value FROM json_each(:ids))",
)
_VECTORS = (
    "SELECT record_id, updated_at FROM vectors WHERE vector_settings_id = :owner",
    "SELECT record_id, updated_at, value FROM vectors WHERE vector_settings_id = :owner AND record_id IN (SELECT value FROM json_each(:ids))",
)


@cache
def _sessions() -> async_sessionmaker:
    """Connections of our own: a request holds one of Argilla's while it asks us, and fifteen at once would wait for ever."""
    return async_sessionmaker(create_async_engine(settings.database_url, **settings.database_engine_args))


@SearchEngine.register(engine_name=NAME)
class EmbeddedSearchEngine(SearchEngine):
    """`session_factory` opens a session on Argilla's database."""

    def __init__(self, session_factory: Callable[[], Any] = lambda: _sessions()()):
        self.session_factory = session_factory
        # By dataset, then by what they hold: "text", or the id of a kind of vector.
        self._indexes: dict[UUID, dict[Any, TextIndex | VectorIndex]] = defaultdict(dict)
        self._locks: dict[Any, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    async def new_instance(cls) -> "EmbeddedSearchEngine":
        return _the_engine()  # argilla-server asks for a new one at each request, and the indexes are to outlive it

    async def close(self) -> None:
        pass

    async def ping(self) -> bool:
        async with self.session_factory() as db:
            await db.execute(text("SELECT 1"))
        return True

    async def info(self) -> dict[str, Any]:
        return {"name": NAME, "version": {"number": sqlite3.sqlite_version, "distribution": "sqlite"}}

    # --- there is no index to keep ----------------------------------------------------------------------------------

    async def create_index(self, dataset: Dataset) -> None:
        pass

    async def delete_index(self, dataset: Dataset) -> None:
        self._indexes.pop(dataset.id, None)

    async def configure_metadata_property(self, dataset: Dataset, metadata_property: MetadataProperty) -> None:
        pass

    async def configure_index_vectors(self, vector_settings: VectorSettings) -> None:
        pass

    async def index_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        pass

    async def partial_record_update(self, record: Record, **update: Any) -> None:
        pass

    async def delete_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        pass

    async def update_record_response(self, response: Response) -> None:
        pass

    async def delete_record_response(self, response: Response) -> None:
        pass

    async def update_record_suggestion(self, suggestion: Suggestion) -> None:
        pass

    async def delete_record_suggestion(self, suggestion: Suggestion) -> None:
        pass

    # --- counts -----------------------------------------------------------------------------------------------------

    async def get_dataset_progress(self, dataset: Dataset) -> dict[str, int]:
        counted = select(Record.status, func.count()).where(Record.dataset_id == dataset.id).group_by(Record.status)
        return {} if dataset.is_draft else await self._counts(counted)

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict[str, int]:
        """Return how many responses of this one user have which status."""
        counted = (
            select(Response.status, func.count())
            .join(Record, Record.id == Response.record_id)
            .where(Record.dataset_id == dataset.id, Response.user_id == user.id)
            .group_by(Response.status)
        )
        return {} if dataset.is_draft else await self._counts(counted)

    async def _counts(self, counted: Select) -> dict[str, int]:
        async with self.session_factory() as db:
            counts = {status.value: count for status, count in await db.execute(counted)}
        return {"total": sum(counts.values()), **counts}

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        """Return how often each term occurs, or the least and the greatest number."""
        found = filters.metadata(metadata_property.name)
        tables = filters.joined(Record.__table__, *found.tables)
        rows = and_(Record.dataset_id == metadata_property.dataset_id, found.where, found.value.is_not(None))
        async with self.session_factory() as db:
            if metadata_property.type == MetadataPropertyType.terms:
                term, count = cast(found.value, String), func.count(func.distinct(Record.id))
                each = select(term, count).select_from(tables).where(rows).group_by(term)
                values = [
                    TermsMetrics.TermCount(term=term, count=count)
                    for term, count in await db.execute(each.order_by(count.desc(), term))
                ]
                return TermsMetrics(total=sum(value.count for value in values), values=values)
            number = cast(found.value, Float)
            ends = select(func.min(number), func.max(number)).select_from(tables).where(rows)
            low, high = (await db.execute(ends)).one()
        if metadata_property.type == MetadataPropertyType.integer:
            return IntegerMetadataMetrics(
                min=None if low is None else int(low), max=None if high is None else int(high)
            )
        return FloatMetadataMetrics(min=low, max=high)

    # --- search -----------------------------------------------------------------------------------------------------

    async def search(
        self,
        dataset: Dataset,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        sort: list[Order] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: UUID | str | None = None,
    ) -> SearchResponses:
        """Return a page of the records that match, and how many there are.

        In the order that is asked for; else the best match first; else, for a user, in an order of the user's own, so that
        annotators do not all begin with the same records; else the oldest first."""
        async with self.session_factory() as db:
            where = [Record.dataset_id == dataset.id]
            if filter:
                where.append(filters.condition(filter))
            scores = await self._text_scores(db, dataset, query)
            if scores is not None:
                where.append(filters.among(scores))
            if sort or (scores is None and not user_id):
                return await self._page(db, where, filters.ordering(sort or []), offset, limit)
            ids = await self._ids(db, where)
        if scores is not None:
            ids.sort(key=lambda record: -scores[record])
        else:
            ids.sort(key=lambda record: hashlib.blake2b(record.encode(), key=str(user_id).encode()).digest())
        items = [_item(record, scores[record] if scores else 1.0) for record in ids[offset : offset + limit]]
        return SearchResponses(items=items, total=len(ids))

    async def _page(
        self, db: AsyncSession, where: list[ColumnElement], order: list[ColumnElement], offset: int, limit: int
    ) -> SearchResponses:
        total = (await db.execute(select(func.count()).select_from(Record).where(*where))).scalar_one()
        page = select(cast(Record.id, String)).where(*where).order_by(*order, Record.inserted_at, Record.id)
        found = (await db.execute(page.offset(offset).limit(limit))).scalars()
        return SearchResponses(items=[_item(record, None if order else 1.0) for record in found], total=total)

    async def similarity_search(
        self,
        dataset: Dataset,
        vector_settings: VectorSettings,
        value: list[float] | None = None,
        record: Record | None = None,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """Return the records whose vector is most (or least) like a vector, or like a record's, without that record.

        Raises ValueError unless there is one of the two, of the right length."""
        if bool(value) == bool(record):
            # The words of this and the next error are Argilla's own, which its tests look for.
            raise ValueError("Must provide either vector value or record to compute the similarity search")
        vector = value or record.vector_value_by_vector_settings(vector_settings)
        if not vector:
            raise ValueError("Cannot find a vector value to apply with provided info")
        if len(vector) != vector_settings.dimensions:
            raise ValueError(
                f"{vector_settings.name!r} has {vector_settings.dimensions} numbers, and {len(vector)} came"
            )
        if order == SimilarityOrder.least_similar:
            vector = [-number for number in vector]
        async with self.session_factory() as db:
            scores = await self._text_scores(db, dataset, query)
            allowed = None if scores is None else set(scores)
            if filter:
                fitting = set(await self._ids(db, [Record.dataset_id == dataset.id, filters.condition(filter)]))
                allowed = fitting if allowed is None else allowed & fitting
            index = await self._index(db, dataset, vector_settings.id, VectorIndex, vector_settings.id, _VECTORS)
        found = [
            (other, score)
            for other, score in await asyncio.to_thread(index.scores, vector)
            if (allowed is None or other in allowed)
            and (record is None or other != record.id.hex)
            and (threshold is None or score >= threshold)
        ][:max_results]
        return SearchResponses(items=[_item(other, score) for other, score in found], total=len(found))

    async def _ids(self, db: AsyncSession, where: list[ColumnElement]) -> list[str]:
        """The ids as SQLite holds them, oldest first: to make UUIDs of 100,000 takes longer than the query."""
        found = select(cast(Record.id, String)).where(*where).order_by(Record.inserted_at, Record.id)
        return list((await db.execute(found)).scalars())

    # --- the indexes in memory --------------------------------------------------------------------------------------

    async def _text_scores(
        self, db: AsyncSession, dataset: Dataset, query: TextQuery | str | None
    ) -> dict[str, float] | None:
        """Return {record id: score} of what the words are in, None where there is no query."""
        if query is None:
            return None
        query = TextQuery(q=query) if isinstance(query, str) else query
        fields = select(Field.name, Field.settings).where(Field.dataset_id == dataset.id)
        kinds = {name: (options or {}).get("type", "") for name, options in await db.execute(fields)}
        if query.field and query.field not in kinds:
            raise ValueError(f"dataset {dataset.name!r} has no field {query.field!r}; it has {', '.join(kinds)}")
        texts = {name: kind for name, kind in kinds.items() if kind != "image"}
        if not texts:
            return {}
        if (index := self._indexes[dataset.id].get("text")) is not None and index.fields != texts:
            del self._indexes[dataset.id]["text"]
        index = await self._index(db, dataset, "text", lambda: TextIndex(texts), dataset.id, _RECORDS)
        return await asyncio.to_thread(index.search, query.q, query.field)

    async def _index(
        self,
        db: AsyncSession,
        dataset: Dataset,
        key: Any,
        new: Callable[[], Any],
        owner: UUID,
        queries: tuple[str, str],
    ) -> Any:
        """Return an index that is up to date: its rows are those of the owner, and the database says when each was changed."""
        stamps, rows = map(text, queries)
        async with self._locks[dataset.id, key]:
            if key not in self._indexes[dataset.id]:
                self._indexes[dataset.id][key] = new()
            index = self._indexes[dataset.id][key]
            current = {record: stamp for record, stamp in await db.execute(stamps, {"owner": owner.hex})}
            gone = [record for record in index.stamps if record not in current]
            stale = [record for record, stamp in current.items() if index.stamps.get(record) != stamp]
            changed: Sequence[Any] = []
            for start in range(0, len(stale), _AT_ONCE):
                some = json.dumps(stale[start : start + _AT_ONCE])
                binds = {"ids": some, "owner": owner.hex} if ":owner" in queries[1] else {"ids": some}
                changed = [*changed, *await db.execute(rows, binds)]
            if gone or changed:
                await asyncio.to_thread(index.update, gone, changed)
            return index


@cache
def _the_engine() -> EmbeddedSearchEngine:
    return EmbeddedSearchEngine()


def _item(record: str, score: float | None) -> SearchResponseItem:
    return SearchResponseItem(record_id=UUID(record), score=score)
