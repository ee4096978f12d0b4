"""Checks: each marks records and explains; none deletes.

Every check returns `Verdicts`, which join with +:

    from workbench.quality import dedup, rules
    from workbench.records import kept

    verdicts = rules.check(records) + dedup.exact(records)
    good = kept(records, verdicts)

`good` holds those that failed no check, each id once."""

from workbench.quality.checks import Limits, Verdicts

__all__ = ["Limits", "Verdicts"]
