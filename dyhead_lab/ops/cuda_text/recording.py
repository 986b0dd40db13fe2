"""Launches that were recorded, for machines without a compiler.

A recorded launch is found by everything that decides it: the text, and every byte that the kernel was given.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import KernelError
from .toolchain import why_missing

_known: dict[str, Any] = {}
_kept: dict[str, Any] | None = None
_largest = 0


def replay(path: Path) -> None:
    """Where there is no compiler, launches from this file take the place of running them."""
    _known.update(json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def recorded(path: Path, largest: int) -> Iterator[None]:
    """Record into a file the launches inside the block, those that end in an error too.

    Args:
        largest: bytes that a launch may take in the file; larger ones are left out.
    """
    global _kept, _largest
    before, _kept, _largest = _kept, {}, largest
    try:
        yield
        text = json.dumps(_kept, sort_keys=True, separators=(",", ":")).replace("},", "},\n")
        path.write_text(text + "\n", encoding="utf-8")
    finally:
        _kept = before


def keep(text: str, packed: bytes, report: dict[str, Any], content: bytes) -> None:
    """Record a launch, if somebody records."""
    if _kept is not None:
        packed_content = base64.b64encode(zlib.compress(content, 9)).decode()
        if len(packed_content) <= _largest:
            _kept[_key(text, packed)] = {"report": report, "content": packed_content}


def keep_error(text: str, error: KernelError) -> None:
    """Record that a text does not compile, if somebody records."""
    if _kept is not None:
        _kept[_key(text, b"")] = {"error": [error.kind, str(error), error.line]}


def raise_known(text: str) -> None:
    """Where nothing can be compiled.

    Raises:
        KernelError: a recording knows that this text does not compile.
    """
    entry = _known.get(_key(text, b""))
    if entry is not None:
        kind, message, line = entry["error"]
        raise KernelError(kind, message, line)


def find(text: str, packed: bytes) -> tuple[dict[str, Any], bytes]:
    """The report and the tensors' bytes of a recorded launch.

    Raises:
        KernelError: this launch is in no recording.
    """
    entry = _known.get(_key(text, packed))
    if entry is None:
        raise KernelError("machine", f"{why_missing()} Until then only what the book itself launches can be shown.")
    return entry["report"], zlib.decompress(base64.b64decode(entry["content"]))


def _key(text: str, packed: bytes) -> str:
    return hashlib.sha256(text.encode() + b"\0" + packed).hexdigest()[:32]
