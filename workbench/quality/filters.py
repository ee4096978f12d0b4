"""A query as a check: what its rows select passes, and the others fail, or the other way round.

rows = store.query("SELECT id FROM preference WHERE score_chosen - score_rejected > 0.3", run=run)
run.mark(filters.passing(rows, run, name="wide_gap"))"""

from typing import Any

from workbench import store
from workbench.errors import InputError, RecordError
from workbench.quality.checks import Verdicts
from workbench.records import Verdict
from workbench.runs import Run


def passing(rows: Any, run: Run, *, name: str) -> Verdicts:
    """Return the verdicts of the check `name`: the records that the rows name by `id` pass, all others of their kind fail
    with the reason "not_selected". The query stands in each verdict's detail.

    `rows` are what `store.query` gave, or any other table. Raises InputError when they have no column `id`, when they are
    none and the run holds several kinds, RecordError for an id that no record of the run has."""
    return _verdicts(rows, run, name, is_passing=True)


def failing(rows: Any, run: Run, *, name: str) -> Verdicts:
    """Return the verdicts of the check `name`: the records that the rows name by `id` fail with the reason "selected", all
    others of their kind pass. Otherwise as `passing`."""
    return _verdicts(rows, run, name, is_passing=False)


def _verdicts(rows: Any, run: Run, name: str, *, is_passing: bool) -> Verdicts:
    found = store.as_table(rows)
    if "id" not in found.column_names:
        raise InputError(
            f"the rows have no column 'id'; they have {', '.join(found.column_names)}. Select the ids of the records: SELECT id, ..."
        )
    selected = dict.fromkeys(map(str, found.column("id").to_pylist()))
    kinds = [
        dict.fromkeys(part.to_table(columns=["id"]).column("id").to_pylist())
        for kind, part in run.tables().items()
        if kind not in ("failure", "verdict")
    ]
    if odd := [each for each in selected if not any(each in ids for ids in kinds)]:
        raise RecordError(
            f"{len(odd):,} of {len(selected):,} ids are of no record of this run, such as {odd[0]!r}. Select the column id of its records."
        )
    # Rows of one kind say nothing about records of another.
    judged = [ids for ids in kinds if not selected.keys().isdisjoint(ids)] if selected else kinds
    if not selected and len(kinds) != 1:
        raise InputError(
            f"no row is selected, and the run holds {len(kinds)} kinds of record: nothing tells which is meant."
        )
    reason = "not_selected" if is_passing else "selected"
    detail = " ".join(getattr(rows, "sql", "").split())[:300]
    verdicts = []
    for each in (each for ids in judged for each in ids):
        passed = (each in selected) == is_passing
        verdicts.append(Verdict(each, name, passed, reason="" if passed else reason, detail=detail))
    return Verdicts(tuple(verdicts), name)
