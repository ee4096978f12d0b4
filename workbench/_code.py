"""A fingerprint of the code that a recipe runs, so that an edited recipe never serves rows from before the edit.

It is taken of the code as loaded, not of the files: in a notebook whose module was edited and not reloaded, the old code
still runs, and the rows belong to that. Followed are the modules of the recipe's own package and of the workbench, through
everything their top level imports; for a function of a notebook, whatever it names. Values are followed into containers,
partials, wrapped functions and the attributes of objects. Not followed: other installed packages, files that the code
reads, and imports inside functions. Where in doubt it changes too often, which costs nothing: the ledger answers."""

import functools
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from workbench.records import content_hash

_INSTALLED = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_OWN = "workbench"
_DEEPEST = 12


def code_fingerprint(make: Callable[..., Any]) -> str:
    """Return a hash of the code behind `make`: equal code gives equal hashes, in every process."""
    walk = _Walk()
    return content_hash([walk.value(make), sorted(walk.found.items())])


class _Walk:
    """What was found on the way, by name; each module, function and class is looked at once."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def value(self, value: Any, depth: int = 0) -> Any:
        """The content of any value, as plain JSON."""
        if value is None or isinstance(value, bool | int | str | bytes | float):
            return ascii(value)
        if depth > _DEEPEST:
            return type(value).__qualname__
        inner = lambda item: self.value(item, depth + 1)
        if isinstance(value, list | tuple):
            return [type(value).__name__, *map(inner, value)]
        if isinstance(value, set | frozenset):
            return ["set", *sorted(str(inner(item)) for item in value)]
        if isinstance(value, Mapping):
            return ["mapping", *([inner(key), inner(item)] for key, item in value.items())]
        if isinstance(value, functools.partial):
            return ["partial", inner(value.func), inner(value.args), inner(value.keywords)]
        if isinstance(value, MethodType):
            return ["method", inner(value.__func__), inner(value.__self__)]
        if isinstance(value, FunctionType | type):
            return self.function_or_class(value)
        if isinstance(value, ModuleType):
            return self.module(value)
        if isinstance(value, BuiltinFunctionType):
            return value.__qualname__
        if isinstance(value, re.Pattern):
            return [ascii(value.pattern), value.flags]
        if isinstance(value, PurePath):
            return value.name  # where a checkout lies changes nothing
        if (identity := getattr(value, "content_id", None)) is not None:
            return ascii(identity)
        if (wrapped := getattr(value, "__wrapped__", None)) is not None:  # functools.cache and its like
            return ["wrapped", inner(wrapped)]
        return self.instance(value, depth)

    def instance(self, value: Any, depth: int) -> Any:
        """An object by its class and its attributes; one that has none by what it prints, without its address."""
        kind = type(value)
        names = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())] + sorted(
            getattr(value, "__dict__", ())
        )
        held = [[name, self.value(getattr(value, name), depth + 1)] for name in names if hasattr(value, name)]
        shown = [] if held else [re.sub(r" at 0x[0-9a-fA-F]+", "", ascii(value))]
        return [self.function_or_class(kind), held, *shown]

    def function_or_class(self, value: Any) -> str:
        """Its name; its code goes to what was found, with all that it names."""
        name = f"{value.__module__}.{value.__qualname__}"
        home = sys.modules.get(value.__module__)
        if home is not None and value.__module__ != "__main__" and not _is_followed(home):
            return name
        key = f"{name} {id(value)}"  # two functions may share a name, as closures do
        if key in self._seen:
            return name
        self._seen.add(key)
        if (
            home is not None
            and value.__module__ != "__main__"
            and getattr(home, value.__qualname__.partition(".")[0], None) is not None
        ):
            self.module(home)
        self.found.setdefault(name, []).append(list(self.codes(value)))
        return name

    @functools.cached_property
    def _seen(self) -> set[str]:
        return set()

    def codes(self, value: Any) -> Iterator[Any]:
        """The code of a function, its defaults, what it closes over and, in a notebook, the globals it names."""
        if isinstance(value, FunctionType):
            yield _code(value.__code__)
            yield self.value([*(value.__defaults__ or ()), *sorted((value.__kwdefaults__ or {}).items())])
            yield [self.value(cell.cell_contents) for cell in value.__closure__ or () if _is_filled(cell)]
            if value.__module__ == "__main__" or value.__module__ not in sys.modules:
                for name in sorted({name for code in _nested(value.__code__) for name in code.co_names}):
                    if name in value.__globals__:
                        yield [name, self.value(value.__globals__[name])]
        else:
            yield [self.value(base) for base in value.__mro__[1:] if base is not object]
            for name, member in sorted(vars(value).items()):
                inner = (
                    getattr(member, "__func__", None)
                    or getattr(member, "fget", None)
                    or getattr(member, "func", None)
                    or member
                )
                if isinstance(inner, FunctionType):
                    yield [name, *self.codes(inner)]
                elif not name.startswith("__"):
                    yield [name, self.value(inner)]

    def module(self, module: ModuleType) -> str:
        """Its name; all functions, classes and values of its top level go to what was found, and the modules they name."""
        name = module.__name__
        if name in self.found or name == "__main__" or not _is_followed(module):
            return name
        parts = self.found[name] = []
        is_own = name.partition(".")[0] == _OWN
        for key, value in sorted(vars(module).items()):
            if key.startswith("__"):
                continue
            if is_own and isinstance(value, ModuleType) and value.__name__ == f"{name}.{key}":
                continue  # a package holds the submodules that anybody has imported so far
            home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(value, FunctionType | type) and home == name:
                parts.append([key, list(self.codes(value))])
            elif isinstance(value, ModuleType | FunctionType | type):
                parts.append([key, home])
                if isinstance(home, str) and home in sys.modules:
                    self.module(sys.modules[home])
            # In the workbench itself, lower-case values of a module are its state and not its code.
            elif not is_own or key.strip("_").isupper() or hasattr(value, "__wrapped__"):
                parts.append([key, self.value(value)])
        return name


def _is_followed(module: ModuleType) -> bool:
    if module.__name__.partition(".")[0] == _OWN:
        return True
    file = getattr(module, "__file__", None)
    return bool(file) and not str(Path(file).resolve()).startswith(_INSTALLED)  # type: ignore[arg-type]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  reading it is the question
    except ValueError:
        return False
    return True


def _code(code: CodeType) -> list[Any]:
    """A code object without its file name and line numbers: a comment changes nothing."""
    constants = [
        _code(c) if isinstance(c, CodeType) else sorted(map(ascii, c)) if isinstance(c, frozenset) else ascii(c)
        for c in code.co_consts
    ]
    # co_code is the code as compiled: the interpreter's specialised instructions do not show in it.
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
