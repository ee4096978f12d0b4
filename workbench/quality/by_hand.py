"""What a person decided about records, kept as verdicts in the run's folder at once.

by_hand.drop(ids, run)                  # the check "by_hand" fails them, as "dropped": run.kept() leaves them out
by_hand.keep(ids, run)                  # it passes them
by_hand.label(ids, run, "teacher")      # the check "by_hand.label", which fails none, has the label in its detail
by_hand.undo(ids, run)                  # nothing is decided about them any more
store.query("SELECT record_id, detail FROM verdict WHERE \\"check\\" = 'by_hand.label'", run=run)

Decisions add up, also over sessions; of two about one record the later holds, and what it is called does not depend on
whether it is kept. Records that nobody decided on have no such verdict. Without a run, decisions go from one call to the
next: `decisions = by_hand.drop(ids, decisions)`, and `by_hand.add(decisions, run)` puts them into a folder later."""

from collections.abc import Iterable, Sequence

from workbench import store
from workbench.errors import InputError, RecordError
from workbench.quality.checks import Verdicts
from workbench.records import Verdict
from workbench.runs import BY_HAND, Run

LABEL = f"{BY_HAND}.label"
DROPPED = "dropped"  # the reason of those that a person does not want
_CHECKS = (BY_HAND, LABEL)


def decided(run: Run) -> Verdicts:
    """Return all that was decided by hand on a run, as its folder has it now."""
    files = [run.folder / "verdicts" / f"{check}.parquet" for check in _CHECKS]
    return Verdicts([verdict for file in files if file.exists() for verdict in store.read(file)], BY_HAND)


def keep(ids: Iterable[str], run: Run | Verdicts) -> Verdicts:
    """Return all that is decided now, with these records kept; a run's folder has it too.

    Raises RecordError for an id that no record of the run has, and InputError for what are no ids."""
    return add([Verdict(each, BY_HAND, True) for each in _distinct(ids)], run)


def drop(ids: Iterable[str], run: Run | Verdicts) -> Verdicts:
    """Return all that is decided now, with these records dropped. Otherwise as `keep`."""
    return add([Verdict(each, BY_HAND, False, reason=DROPPED) for each in _distinct(ids)], run)


def label(ids: Iterable[str], run: Run | Verdicts, name: str) -> Verdicts:
    """Return all that is decided now, with these records called `name`, whatever they were called before. Otherwise as `keep`.

    Raises InputError for a name without a character to see."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            f"a label is a text with something in it, got {name!r}. Give it a name: label(ids, run, 'teacher')."
        )
    return add([Verdict(each, LABEL, True, detail=name.strip()) for each in _distinct(ids)], run)


def undo(ids: Iterable[str], run: Run | Verdicts, *, to: Iterable[Verdict] = ()) -> Verdicts:
    """Return all that is decided now, with nothing about these records but what is in `to`. Otherwise as `keep`."""
    ids, to = _distinct(ids), list(to)
    left = [each for each in _older(run) if each.record_id not in ids]
    return _put(left, to, run, [*ids, *(each.record_id for each in to)])


def add(decisions: Iterable[Verdict], run: Run | Verdicts) -> Verdicts:
    """Return all that is decided now, with these decisions, as the other calls return them, as the last. Otherwise as `keep`."""
    decisions = list(decisions)
    return _put(_older(run), decisions, run, [each.record_id for each in decisions])


def check_ids(ids: Iterable[str], run: Run) -> None:
    """Raise RecordError for an id that no record of the run has."""
    known = set[str]()
    for kind, part in run.tables().items():
        if kind not in ("failure", "verdict"):
            known.update(part.to_table(columns=["id"]).column("id").to_pylist())
    ids = list(ids)
    if odd := [each for each in ids if each not in known]:
        raise RecordError(
            f"{len(odd):,} of {len(ids):,} ids are of no record of this run, such as {odd[0]!r}. Give the run whose records they are."
        )


def _older(run: Run | Verdicts) -> Sequence[Verdict]:
    return decided(run) if isinstance(run, Run) else run


def _put(older: Iterable[Verdict], newer: Iterable[Verdict], run: Run | Verdicts, ids: Iterable[str]) -> Verdicts:
    """Both, the newer in place of the older about the same record, and in the folder of a run."""
    merged = {(each.record_id, each.check): each for each in older}
    for each in newer:
        if each.check not in _CHECKS:
            raise InputError(f"{each.check!r} is no decision of a person. Those are {BY_HAND!r} and {LABEL!r}.")
        merged[each.record_id, each.check] = each
    found = Verdicts(merged.values(), BY_HAND)
    if isinstance(run, Run):
        check_ids(ids, run)
        for check in _CHECKS:  # Run.mark leaves alone a check that has no verdict any more
            if all(each.check != check for each in found):
                (run.folder / "verdicts" / f"{check}.parquet").unlink(missing_ok=True)
        run.mark(found)
    return found


def _distinct(ids: Iterable[str]) -> dict[str, None]:
    if isinstance(ids, str):
        raise InputError(f"ids are several, got the text {ids!r}. Give [{ids!r}].")
    found = dict.fromkeys(ids)
    if odd := [each for each in found if not isinstance(each, str)]:
        raise InputError(f"the id of a record is a text, got {odd[0]!r}. Give record.id of each.")
    return found
