"""Every error the workbench raises on purpose.

    WorkbenchError
    ├── InputError            what was given cannot be used: a missing file, an empty folder, a wrong column
    ├── RecordError           a record, provenance or verdict that would not be true or would not survive a round trip
    ├── PromptError           a prompt file that is missing, edited after release, or rendered with other variables
    ├── StoreError            a Parquet folder or a query that cannot be read or written
    ├── LedgerError           a ledger file that is damaged, foreign, or on a disk that is full
    ├── RunError              a run that cannot start or go on
    ├── ClientError           a client that was set up wrong: no key, no model, no price for a money budget
    ├── ReviewError           the annotation server, or what it holds, is not what is needed
    ├── CallFailed            one request that got no usable answer; the runner turns it into a Failure
    │   └── BudgetExhausted   the next request would have passed the budget, so it was not sent
    └── MissingLibrary        an optional library that is not installed

An error names the thing, what came, what was wanted, and the next move."""

import importlib
from types import ModuleType


class WorkbenchError(Exception):
    """The root: catch this to catch everything the workbench raises on purpose."""


class InputError(WorkbenchError):
    """What was given cannot be used."""


class RecordError(WorkbenchError):
    """A record that would not be true, or would not survive a round trip."""


class PromptError(WorkbenchError):
    """A prompt that is missing, was edited after its release, or was rendered with other variables."""


class StoreError(WorkbenchError):
    """A Parquet folder or a query that cannot be read or written."""


class LedgerError(WorkbenchError):
    """A ledger file that is damaged, foreign, or on a disk that is full."""


class RunError(WorkbenchError):
    """A run that cannot start or go on."""


class ClientError(WorkbenchError):
    """A client that was set up wrong."""


class ReviewError(WorkbenchError):
    """The annotation server, or what it holds, is not what is needed."""


class CallFailed(WorkbenchError):
    """One request that got no usable answer.

    `reason` is one of `REASONS`; `raw` is what came back, as far as it came; `cost` in US dollars where it is known;
    `fatal` says that no other request can succeed either (a refused key), so that a run stops early."""

    REASONS = (
        "connection", "timeout", "server_error", "rate_limited", "rejected", "bad_response", "empty",
        "refusal", "length", "content_filter", "budget",
    )  # fmt: skip

    def __init__(self, reason: str, detail: str, *, raw: str = "", fatal: bool = False, attempts: int = 1):
        super().__init__(f"{reason}: {detail}")
        assert reason in self.REASONS, reason
        self.reason, self.detail, self.raw = reason, detail, raw
        self.fatal, self.attempts = fatal, attempts
        self.retry_after_seconds: float | None = None
        self.key = ""  # of the ledger, once it is in one
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.cost: float | None = None


class BudgetExhausted(CallFailed):
    """The next request would have passed the budget, so it was not sent."""

    def __init__(self, detail: str):
        super().__init__("budget", detail, fatal=True, attempts=0)


class MissingLibrary(WorkbenchError, ImportError):
    """An optional library that is not installed."""


def require(library: str, *, extra: str) -> ModuleType:
    """Return the optional library, imported now.

    Raises MissingLibrary, whose message says what to type, when it is not installed."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != library.partition(".")[0]:
            raise  # the library is here and one of *its* imports is broken: that message is the useful one
        raise MissingLibrary(
            f"{library!r} is not installed. It comes with the {extra!r} extra: pip install 'synthetic-data-workbench[{extra}]'",
            name=library,
        ) from error
