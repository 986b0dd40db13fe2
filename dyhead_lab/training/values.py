"""Settings as people type them: ``milestones=600,800``, ``compile=true``, ``model.dyhead.scale=false``."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import UserError


def value_like(old: Any, new: Any, name: str) -> Any:
    """``new``, perhaps typed at a command line, as a value of ``old``'s type.

    Tuples are typed with commas and dicts as Python writes them. Where ``old`` is None, text is read as Python
    would read it, and is kept as text if that fails. In place of text, ``None`` stands for nothing.

    A class or function takes the place of another one, or of None, and None takes its place.

    Raises:
        UserError: it cannot be read so.
    """
    try:
        if callable(old) or callable(new):
            return _part(old, new)
        if isinstance(old, bool):
            return {"true": True, "false": False}[str(new).lower()]
        if isinstance(old, tuple | list):
            return type(old)(ast.literal_eval(f"({new},)") if isinstance(new, str) and new else new)
        if isinstance(old, Mapping) and isinstance(new, str):
            return dict(ast.literal_eval(new))
        if isinstance(old, str) and new in (None, "None"):
            return None
        if isinstance(old, int) and isinstance(new, float) and not new.is_integer():
            raise ValueError  # int() would cut it off
        return _literal(new) if old is None else type(old)(new)
    except (ValueError, KeyError, TypeError, SyntaxError):
        raise UserError(f"{name}: expected a value like {old!r}, got {new!r}") from None


def _part(old: Any, new: Any) -> Any:
    if new in (None, "None"):
        return None
    if not callable(new) or not (old is None or callable(old)):
        raise TypeError
    return new


def _literal(new: Any) -> Any:
    try:
        return ast.literal_eval(new) if isinstance(new, str) else new
    except (ValueError, SyntaxError):
        return new


def nested(options: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """All values of a dict of dicts under their dotted names: ``{"a": {"b": 1}}`` -> a and a.b."""
    names: dict[str, Any] = {}
    for key, value in options.items():
        names[f"{prefix}.{key}"] = value
        if isinstance(value, Mapping):
            names |= nested(value, f"{prefix}.{key}")
    return names


def replaced(options: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a dict of dicts in which the dotted ``path`` has this value; dicts on the way may be missing."""
    first, _, rest = path.partition(".")
    return {**options, first: replaced(options.get(first) or {}, rest, value) if rest else value}


def refuse_unknown(name: str, known: Iterable[str], owner: str) -> None:
    """Refuse a setting that ``owner`` does not have.

    Raises:
        UserError: it names the nearest setting, or all of them.
    """
    known = sorted(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
        raise UserError(f"{owner} has no setting {name!r}; {hint}")


def refuse_other_arguments(name: str, function: Callable[..., Any], /, *values: Any, **settings: Any) -> None:
    """Refuse a function or class that cannot be called with these arguments; it is not called.

    Raises:
        UserError: it names what is wrong, and what it takes.
    """
    if not callable(function):
        raise UserError(f"{name}: expected a class or a function, got {type(function).__name__}")
    signature = inspect.signature(function)
    try:
        signature.bind(*values, **settings)
    except TypeError as error:
        called = getattr(function, "__qualname__", repr(function))
        asked = ", ".join([*map(repr, values), *(f"{key}=..." for key in settings)])
        raise UserError(f"{name}: {called}({asked}): {error}; it takes {signature}") from None


def refuse_other(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Refuse a value that is not one of those allowed.

    Raises:
        UserError: it names them.
    """
    if value not in allowed:
        raise UserError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {value!r}")
