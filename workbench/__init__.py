"""The Synthetic Data Workbench: documents and seeds in, a dataset that can prove its worth out.

Layers, bottom to top; a module imports only from lower ones (tests/test_layers.py holds it):
errors, records, (prompts.library, store, llm.client), (llm, embed, corpus, clusters, runner), (recipes, quality, experiments),
(stages, prompts.optimize, share), (report, plots, __main__).

Submodules load when they are named, so `import workbench` costs almost nothing."""

import importlib

__version__ = "0.1.0"

_SUBMODULES = (
    "clusters", "corpus", "embed", "errors", "experiments", "generate", "intervals", "llm", "plots", "prompts", "quality", "recipes", "records", "report", "review", "runner",
    "share", "stages", "store",
)  # fmt: skip
__all__ = ["explain", *_SUBMODULES]


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"workbench.{name}")
    if name == "explain":
        return importlib.import_module("workbench.runner").explain
    raise AttributeError(f"module 'workbench' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
