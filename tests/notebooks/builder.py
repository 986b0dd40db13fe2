"""``scripts/build_notebooks.py`` as a module: scripts are no package."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "build_notebooks", Path(__file__).resolve().parents[2] / "scripts" / "build_notebooks.py"
)
assert _spec is not None and _spec.loader is not None
builder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(builder)
