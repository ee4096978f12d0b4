"""Clients and the ledger. One protocol, `async complete(request) -> Completion`; the heavy parts load when named."""

import importlib

from workbench.llm.client import Budget, Choice, Client, Completion, Price, Request, Sampling

_LATER = {
    "Answer": "answers", "Ledger": "ledger", "Limits": "openai_api", "Local": "local", "Offline": "offline", "OpenAI": "openai_api",
    "Pool": "pool", "Scripted": "scripted", "ask": "answers", "to": "pool",
}  # fmt: skip
__all__ = ["Budget", "Choice", "Client", "Completion", "Price", "Request", "Sampling", *_LATER]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(importlib.import_module(f"workbench.llm.{_LATER[name]}"), name)
    raise AttributeError(f"module 'workbench.llm' has no attribute {name!r}; it has {', '.join(__all__)}")
