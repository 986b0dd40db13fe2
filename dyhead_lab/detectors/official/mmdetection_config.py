"""What the configuration of mmdetection says that comes as Python text in its files. It is read, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Settings of a configuration that decide numbers; None where it does not say.

    Attributes:
        style: of the ResNet.
        pixels: ``bgr``, ``mean``, ``std`` (red, green, blue), ``size_divisible`` and ``anchor_offset``.
    """

    style: str | None = None
    pixels: Mapping[str, Any] = field(default_factory=dict)


def settings_in(meta: Mapping[str, Any]) -> Settings:
    """The settings in the ``meta`` of a checkpoint, of mmdetection 3 (``cfg``) or 2 (``config``)."""
    text = meta.get("cfg", meta.get("config"))
    config = _assignments(text) if isinstance(text, str) else {}
    model = config.get("model")
    if not isinstance(model, dict):
        return Settings()
    to_rgb = _first(config, "bgr_to_rgb", "to_rgb")
    bgr = None if to_rgb is None else not to_rgb
    divisor, generator = _first(config, "pad_size_divisor", "size_divisor"), _first(model, "anchor_generator")
    offset = generator.get("center_offset", 0) if isinstance(generator, dict) else None
    pixels = {
        "bgr": bgr,
        "mean": _in_rgb(_first(config, "mean"), bgr),
        "std": _in_rgb(_first(config, "std"), bgr),
        "size_divisible": divisor if isinstance(divisor, int) else None,
        "anchor_offset": offset if isinstance(offset, int | float) else None,
    }
    return Settings(_first(model.get("backbone"), "style"), pixels)


def _in_rgb(values: Any, bgr: bool | None) -> tuple[float, ...] | None:
    """Numbers of three channels, which come in the order that the network reads."""
    if bgr is None or not isinstance(values, list) or [isinstance(x, int | float) for x in values] != [True] * 3:
        return None
    return tuple(reversed(values) if bgr else values)


def _assignments(text: str) -> dict[str, Any]:
    """Names at the top of a Python text -> their values, as far as those are literals and ``dict(...)``."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {
        statement.targets[0].id: _value(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return {keyword.arg: _value(keyword.value) for keyword in keywords if keyword.arg}
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(element) for element in elements]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None  # a name or an expression


def _first(value: Any, *keys: str) -> Any:
    """The first value under one of ``keys``, anywhere inside dicts and lists; keys in the order of preference."""
    return next((found for key in keys for found in _under(value, key)), None)


def _under(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        value = list(value.values())
    if isinstance(value, list):
        for inside in value:
            yield from _under(inside, key)
