"""Verdicts: what a check returns. A frozen sequence that says of itself how many failed, why, and shows some."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from workbench.records import Verdict

_EXAMPLES = 3

_CELL = "padding:4px 12px 4px 0;text-align:left;vertical-align:top;border-top:1px solid var(--jp-border-color2);"
_SOFT = "color:var(--jp-ui-font-color2);"
_BOX = "font-family:var(--jp-ui-font-family);font-size:var(--jp-ui-font-size1);color:var(--jp-ui-font-color1);"


@dataclass(frozen=True, repr=False)
class Verdicts(Sequence[Verdict]):
    """Verdicts in order, one per record and check; `name` is what ran.

        verdicts = rules.check(records) + dedup.exact(records)
        len(verdicts), verdicts.failed, verdicts.by_reason(), verdicts.table()

    A record that fails two checks has two failed verdicts; the repr counts it once, its reasons both."""

    items: tuple[Verdict, ...] = ()
    name: str = "verdicts"

    def __post_init__(self):
        object.__setattr__(self, "items", tuple(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.items)

    def __getitem__(self, at: Any) -> Any:
        """The verdict at an index; a slice gives Verdicts."""
        return Verdicts(self.items[at], self.name) if isinstance(at, slice) else self.items[at]

    def __add__(self, other: "Verdicts") -> "Verdicts":
        if not isinstance(other, Verdicts):
            return NotImplemented
        names = dict.fromkeys(part for name in (self.name, other.name) for part in name.split(" + "))
        names = [name for name in names if name != "verdicts"] or ["verdicts"]
        return Verdicts(self.items + other.items, " + ".join(names))

    @property
    def failed(self) -> "Verdicts":
        """The verdicts that did not pass, in order."""
        return Verdicts(tuple(verdict for verdict in self.items if not verdict.passed), self.name)

    def by_reason(self) -> dict[str, int]:
        """Return how many verdicts failed for each reason code, most frequent first, then by name."""
        counts = Counter(verdict.reason for verdict in self.items if not verdict.passed)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def table(self) -> Any:
        """Return a pyarrow table, a row per verdict and a column per field of Verdict."""
        import pyarrow as pa

        text, fields = pa.string(), ("record_id", "check", "passed", "score", "reason", "detail", "survivor_id")
        kinds = {"passed": pa.bool_(), "score": pa.float64()}
        arrays = [pa.array([getattr(v, field) for v in self.items], kinds.get(field, text)) for field in fields]
        return pa.table(arrays, names=list(fields))

    def _summary(self) -> str:
        """The line after the name; a subclass adds what only it knows."""
        records = len({verdict.record_id for verdict in self.items})
        failed = len({verdict.record_id for verdict in self.items if not verdict.passed})
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.by_reason().items())
        outcome = f"{failed:,} failed ({reasons})" if failed else "none failed"
        return f"{records:,} record{'' if records == 1 else 's'}, {outcome}"

    def __repr__(self) -> str:
        return f"{self.name}: {self._summary()}"

    def _repr_html_(self) -> str:
        head = f"<div style='{_BOX}'><div><b>{escape(self.name)}</b>: {escape(self._summary())}</div>"
        if not (counts := self.by_reason()):
            return head + "</div>"
        examples: dict[str, list[Verdict]] = {reason: [] for reason in counts}
        for verdict in self.items:
            if not verdict.passed and len(examples[verdict.reason]) < _EXAMPLES:
                examples[verdict.reason].append(verdict)
        titles = "".join(f"<th style='{_CELL}{_SOFT}'>{title}</th>" for title in ("reason", "failed", "for example"))
        rows = "".join(
            f"<tr><td style='{_CELL}'>{escape(reason)}</td><td style='{_CELL}'>{count:,}</td>"
            f"<td style='{_CELL}'>{''.join(map(_example, examples[reason]))}</td></tr>"
            for reason, count in counts.items()
        )
        return f"{head}<table style='border-collapse:collapse;'><tr>{titles}</tr>{rows}</table></div>"


def _example(verdict: Verdict) -> str:
    return f"<div>{escape(verdict.detail)} <span style='{_SOFT}'>{escape(verdict.record_id[:8])}</span></div>"


def quoted(text: str, *, at: int = 0, width: int = 90) -> str:
    """Return a text in quotes on one line, cut to about `width` characters around position `at`, for a detail."""
    start = max(0, at - width // 3)
    shown = " ".join(text[start : start + width].split())
    return f"“{'…' if start else ''}{shown}{'…' if start + width < len(text) else ''}”"
