"""Prompts: frozen, versioned files, rendered strictly; compared on the same inputs; optimised with DSPy."""

import importlib

from workbench.prompts.library import FOLDER, Prompt, freeze, load, names

# Generation needs the library alone, and never these.
_LATER = {
    "compare": "comparison", "score": "comparison", "diff": "versions", "history": "versions",
    "examples": "", "optimize": "", "programs": "",
}  # fmt: skip
__all__ = ["FOLDER", "Prompt", "freeze", "load", "names", *_LATER]


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module 'workbench.prompts' has no attribute {name!r}; it has {', '.join(__all__)}")
    if not _LATER[name]:
        return importlib.import_module(f"workbench.prompts.{name}")
    return getattr(importlib.import_module(f"workbench.prompts.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
