"""Every argument that a builder of detectors can be given by name, also those that its ``**options`` hand on.

Recipes and ``--set model.NAME=VALUE`` ask here which settings there are, what a value of each looks like, and whether
it can be.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Builder = TypeVar("Builder", bound=Callable[..., Any])

#: Where a builder keeps what :func:`hands_on` was told.
NOTE = "hands_on"
#: Types of values that can be typed. Other arguments are parts of a detector: modules, and functions that make them.
PLAIN = (bool, int, float, str, tuple, Mapping)


def hands_on(*takers: Callable[..., Any], without: tuple[str, ...] = (), **parts: Callable[..., Any]) -> Any:
    """A decorator for builders: say who takes their further arguments.

    Args:
        takers: functions and classes that take the ``**options``.
        without: arguments of the takers that the builder sets itself.
        parts: name of a dict argument -> the function or class that takes its values.
    """

    def note(builder: Builder) -> Builder:
        setattr(builder, NOTE, (takers, without, parts))
        return builder

    return note


def arguments(builder: Callable[..., Any]) -> dict[str, Any]:
    """Plain arguments of a builder that have a default.

    Returns:
        dotted name -> default: ``dyhead_blocks`` and ``dyhead.form``; a builder's own before those of its takers.
    """
    takers, without, parts = vars(builder).get(NOTE, ((), (), {}))  # not of a base class: it may build otherwise
    found: dict[str, Any] = {}
    for taker in takers:
        found |= {name: default for name, default in arguments(taker).items() if name not in without}
    for name, part in parts.items():
        found |= {f"{name}.{inner}": default for inner, default in arguments(part).items() if inner not in without}
    return found | _own(builder)


def check_numbers(builder: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse numbers below zero: what a detector of this library takes are counts, sizes, shares and thresholds.

    Raises:
        ValueError: there is one, or one that is not a number. Other people's detectors may take what they like.
    """
    for name, value in options.items() if _is_ours(builder) else ():
        if any(isinstance(leaf, int | float) and not leaf >= 0 for leaf in _leaves(value)):
            raise ValueError(f"{name}: expected no number below 0, got {value}")


def has_foreign_code(builder: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    """Whether a detector is built by code that is not of this library: its own, or a part among its options."""
    return not _is_ours(builder) or any(map(callable, _leaves(options)))


def _is_ours(builder: Callable[..., Any]) -> bool:
    return getattr(builder, "__module__", "").startswith(f"{__name__.partition('.')[0]}.")


def _leaves(value: Any) -> Iterator[Any]:
    """What lies in containers of containers."""
    if isinstance(value, Mapping | tuple | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(inner)
    else:
        yield value


def _own(builder: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)
    except NameError:  # names that only a type checker imports
        hints = {}
    return {
        name: parameter.default
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.default is not parameter.empty and _is_plain(parameter.default, hints.get(name))
    }


def _is_plain(default: Any, hint: Any) -> bool:
    """Whether a value of the argument can be typed; where the default is None, its type decides."""
    if default is not None:
        return isinstance(default, PLAIN)
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    return NoneType in kinds and any((get_origin(kind) or kind) in PLAIN for kind in kinds)
