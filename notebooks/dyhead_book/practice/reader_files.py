"""Small files of the reader: guesses, right answers, what is solved. None of them lies in the repository."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty where there is no file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {type(content).__name__}")
    return content


def write(path: Path, text: str) -> None:
    """Write the whole file or nothing of it.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_object(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON; see :func:`write`."""
    write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
