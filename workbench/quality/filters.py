"""A query as a check: what its rows select passes, and the others fail, or the other way round.

rows = store.query("SELECT id FROM instruction WHERE length(output) > $most", {"most": 2000}, run=run)
run.mark(filters.failing(rows, run, name="too_long"))

What a model judged filters through here only where the caller says that the judge is uncalibrated: a calibrated one filters
by `calibration.filtered_by`, which knows what it is worth."""

import re
from typing import Any

from workbench import store
from workbench.errors import InputError, RecordError
from workbench.quality.checks import Verdicts
from workbench.records import Verdict, content_hash
from workbench.runs import UNCALIBRATED_FILTER, Run

_MOST_CHARACTERS = 300  # of a query in a detail
# Where a run holds what a model judged, and the words by which a query gets at it.
_JUDGED = {
    "rating": "provenance.model <> ''", "vote": "provenance.model <> ''", "verdict": """ "check" = 'judge' """,
    "preference": "score_chosen IS NOT NULL OR score_rejected IS NOT NULL",
}  # fmt: skip
_LITERAL = re.compile(r"'(?!judge')[^']*'")  # a text may speak of votes; 'judge' is the check of marks
_JUDGEMENT = re.compile(r"(?<![a-z0-9])(rating|vote|judge|score_chosen|score_rejected)(?![a-z0-9_])", re.IGNORECASE)


def passing(rows: Any, run: Run, *, name: str, uncalibrated: bool = False) -> Verdicts:
    """Return the verdicts of the check `name`: the records that the rows name by `id` pass, all others of their kind fail
    with the reason "not_selected". The query stands in each verdict's detail, with its parameters.

    `rows` are what `store.query` gave, or any other table. Raises InputError when they have no column `id`, when they are
    none and the run holds several kinds, RecordError for an id that no record of the run has.

    Raises InputError too where a model judged what the run holds, and the query names its ratings, votes, marks or scores,
    or the rows come from no query, unless `uncalibrated`: then the check is called uncalibrated.<name> and each detail says
    why, so that funnel, report and card do too."""
    return _verdicts(rows, run, name, uncalibrated, is_passing=True)


def failing(rows: Any, run: Run, *, name: str, uncalibrated: bool = False) -> Verdicts:
    """Return the verdicts of the check `name`: the records that the rows name by `id` fail with the reason "selected", all
    others of their kind pass. Otherwise as `passing`."""
    return _verdicts(rows, run, name, uncalibrated, is_passing=False)


def _verdicts(rows: Any, run: Run, name: str, uncalibrated: bool, *, is_passing: bool) -> Verdicts:
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
    detail = _query_of(rows)
    if uncalibrated:
        detail = "; ".join(filter(None, [detail, "uncalibrated: its judge was never compared with people"]))
        name = f"{UNCALIBRATED_FILTER}{name}" if name else ""
    elif by := _judgement_in(rows, run):
        raise InputError(
            f"the rows of {name!r} must not filter: {by}. Calibrate the judge and filter by "
            "calibration.filtered_by(marks, calibration), or pass uncalibrated=True, and all that is made of it will say so."
        )
    reason = "not_selected" if is_passing else "selected"
    verdicts = []
    for each in (each for ids in judged for each in ids):
        passed = (each in selected) == is_passing
        verdicts.append(Verdict(each, name, passed, reason="" if passed else reason, detail=detail))
    return Verdicts(tuple(verdicts), name)


def _query_of(rows: Any) -> str:
    """The query of these rows and its parameters; of a long one the beginning and a hash of the whole."""
    if not isinstance(rows, store.Rows):
        return ""
    parameters = f" with {rows.parameters!r}" if rows.parameters else ""
    text = " ".join(f"{rows.sql}{parameters}".split())
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS]}… ({content_hash(f'{rows.sql}{parameters}')})"


def _judgement_in(rows: Any, run: Run) -> str:
    """Why rows select by what a model judged in this run, "" where they do not."""
    tables = run.tables()
    is_judged = any(
        table in tables and len(store.query(f"SELECT 1 FROM {table} WHERE {is_so} LIMIT 1", run=run))
        for table, is_so in _JUDGED.items()
    )
    if not is_judged:
        return ""
    if not isinstance(rows, store.Rows) or not rows.sql:
        return "no query says what selects them, and the run holds what a model judged"
    bare = _LITERAL.sub("''", f"{rows.sql} {rows.parameters!r}")
    found = _JUDGEMENT.search(bare)
    return f"the query selects by {found[1]}, which a model judged and nobody has compared with people" if found else ""
