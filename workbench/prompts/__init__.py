"""Prompts: frozen, versioned files, rendered strictly."""

from workbench.prompts.library import FOLDER, Prompt, freeze, load, names

__all__ = ["FOLDER", "Prompt", "freeze", "load", "names"]
