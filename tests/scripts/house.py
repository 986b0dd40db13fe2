"""The set-up as a module, and what its tests share."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "bootstrap.py"


def load(name):
    """A file of ``scripts`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap = load("bootstrap")
environment, torch_builds = bootstrap.environment, bootstrap.torch_builds

RUNNING = tuple(sys.version_info[:2])


def torch_of(venv):
    return venv / "lib" / "python3.11" / "site-packages" / "torch"


def free_space(monkeypatch, gigabytes):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=gigabytes * 1e9))


def steps_of_one_more_call(house, *argv):
    house.steps.clear()
    assert bootstrap.main(argv, house.root) == 0
    return list(house.steps)
