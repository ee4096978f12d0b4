"""Checks: each marks records and explains; none deletes. `Verdicts` is what every check returns.

    from workbench.quality import dedup, rules

    verdicts = rules.check(records) + dedup.exact(records)
    good = kept(records, verdicts)                         # workbench.records.kept: failed no check, each id once"""

from workbench.quality.verdicts import Verdicts

__all__ = ["Verdicts"]
