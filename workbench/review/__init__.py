"""Review: people look at samples before anything is trusted, and what they say comes back by record id.

    server = review.start()                                             # or review.connect(url, api_key)
    sample = review.sampling.stratified(records, found, 100)            # by the clusters of a map
    review.push(sample, server, name="rag-check", annotators=["ana", "ben"])
    answers = review.pull(server, "rag-check")                          # a Responses table
    answers.save("data/review/rag-check.parquet")

What people are asked about each kind of record is in `review.questions`; `widgets.review` asks one person the same in the
notebook, without any server."""

import importlib

# Where each name is: nothing loads before it is asked for.
_NAMES = {
    "start": "server", "stop": "server", "status": "server", "connect": "server",
    "push": "annotate", "pull": "annotate", "Pushed": "annotate", "Suggestion": "annotate",
    "Question": "questions", "Response": "responses", "Responses": "responses", "load": "responses", "Sample": "sampling",
}  # fmt: skip
_MODULES = ("agreement", "annotate", "questions", "replay", "responses", "sampling", "server")
__all__ = [*_MODULES, *_NAMES]


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(importlib.import_module(f"workbench.review.{_NAMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"workbench.review.{name}")
    raise AttributeError(f"module 'workbench.review' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
