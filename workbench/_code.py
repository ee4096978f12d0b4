"""A fingerprint of the code that a recipe runs, so that an edited recipe never serves rows from before the edit.

It is taken of the code as loaded, not of the files: in a notebook whose module was edited and not reloaded, the old code
still runs, and the rows belong to that. Followed are the modules of the recipe's own package and of the workbench, through
everything their top level imports; for a function of a notebook, whatever it names. Not followed: other installed
packages, files that the code reads, and imports inside functions."""

import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from workbench.errors import RecordError
from workbench.records import content_hash

_INSTALLED = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def code_fingerprint(make: Callable[..., Any]) -> str:
    """Return a hash of the code behind `make`: equal code gives equal hashes, in every process."""
    found: dict[str, Any] = {}
    bound = []
    while isinstance(make, partial):
        bound.append([_value(argument) for argument in (*make.args, *make.keywords.items())])
        make = make.func
    function = make if isinstance(make, FunctionType) else getattr(make, "__func__", None) or type(make).__call__
    if not isinstance(function, FunctionType):
        return content_hash([repr(function), bound])
    package = function.__module__.partition(".")[0]
    if package == "__main__" or function.__module__ not in sys.modules:
        _follow(function, found, {package, "workbench"})
    else:
        _take_module(sys.modules[function.__module__], found, {package, "workbench"})
        found["closure"] = [_value(cell.cell_contents) for cell in function.__closure__ or ()] + [_code(function.__code__)]
    return content_hash([sorted(found.items()), bound])


def _take_module(module: ModuleType, found: dict[str, Any], packages: set[str]) -> None:
    """All functions, classes and constants of a module, then the modules that its top level names."""
    if module.__name__ in found:
        return
    parts: list[Any] = []
    found[module.__name__] = parts
    others: list[ModuleType] = []
    for name, value in sorted(vars(module).items()):
        home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if home == module.__name__ and isinstance(value, FunctionType | type):
            parts.append([name, *_codes_of(value)])
        elif isinstance(value, ModuleType | FunctionType | type):
            if isinstance(home, str) and home in sys.modules and _is_followed(sys.modules[home], packages):
                others.append(sys.modules[home])
        elif name.strip("_").isupper():
            parts.append([name, _value(value)])
        elif callable(wrapped := getattr(value, "__wrapped__", None)):  # functools.cache and its like
            parts.append([name, *_codes_of(wrapped)])
    for other in others:
        _take_module(other, found, packages)


def _follow(function: Any, found: dict[str, Any], packages: set[str]) -> None:
    """A function of a notebook: its code, and the globals that it names."""
    key = f"{function.__module__}.{function.__qualname__}"
    if key in found:
        return
    found[key] = list(_codes_of(function))
    functions = [function] if isinstance(function, FunctionType) else [f for f in vars(function).values() if isinstance(f, FunctionType)]
    for each in functions:
        for cell in each.__closure__ or ():
            found.setdefault(f"{key} closure", []).append(_value(cell.cell_contents))
        for name in sorted({name for code in _nested(each.__code__) for name in code.co_names}):
            value = each.__globals__.get(name)
            if isinstance(value, ModuleType):
                if _is_followed(value, packages):
                    _take_module(value, found, packages)
            elif isinstance(value, FunctionType | type):
                home = sys.modules.get(value.__module__)
                if value.__module__ == function.__module__ or home is None:
                    _follow(value, found, packages)
                elif _is_followed(home, packages):
                    _take_module(home, found, packages)
            elif name in each.__globals__:
                found[f"{key} {name}"] = _value(value)


def _is_followed(module: ModuleType, packages: set[str]) -> bool:
    if module.__name__.partition(".")[0] in packages:
        return True
    file = getattr(module, "__file__", None)
    return bool(file) and not str(Path(file).resolve()).startswith(_INSTALLED)  # type: ignore[arg-type]


def _codes_of(value: Any) -> Iterator[Any]:
    if isinstance(value, FunctionType):
        yield _code(value.__code__)
        yield [_value(default) for default in (*(value.__defaults__ or ()), *sorted((value.__kwdefaults__ or {}).items()))]
    elif isinstance(value, type):
        for name, member in sorted(vars(value).items()):
            inner = getattr(member, "__func__", None) or getattr(member, "fget", None) or getattr(member, "func", None) or member
            if isinstance(inner, FunctionType):
                yield [name, _code(inner.__code__)]
            elif not name.startswith("__") and not isinstance(inner, type):
                yield [name, _value(inner)]


def _code(code: CodeType) -> list[Any]:
    """A code object without its file name and line numbers: a comment changes nothing."""
    constants = [_code(c) if isinstance(c, CodeType) else sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c) for c in code.co_consts]
    # co_code is the code as compiled: the interpreter's specialised instructions do not show in it.
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _value(value: Any) -> Any:
    """A constant's content; for what has none, its type."""
    if isinstance(value, FunctionType):
        return _code(value.__code__)
    if isinstance(value, re.Pattern):
        return [value.pattern, value.flags]
    if isinstance(value, Path):
        return value.name  # where a checkout lies changes nothing
    try:
        return content_hash(value)
    except (RecordError, RecursionError, ValueError):
        return type(value).__qualname__
