"""A simulated machine on which the set-up runs."""

import shutil
import sys
from types import SimpleNamespace

import pytest

from .house import RUNNING, environment, free_space, torch_builds, torch_of


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A project folder on a machine with room; commands are noted instead of run, and .venv appears by itself."""
    (tmp_path / "constraints.txt").write_text("torch==2.11.0\nnumpy==2.4.6\ntorchvision==0.26.0\n", encoding="utf-8")
    (tmp_path / "constraints-cuda.txt").write_text("# with CUDA\ntriton==3.6.0\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools", "torch>=2.11"]\n'
        '[project]\ndependencies = ["torch>=2.11", "numpy"]\n'
        '[project.optional-dependencies]\ntest = ["pytest"]\n',
        encoding="utf-8",
    )
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "kernel.cu").write_text("one", encoding="utf-8")
    state = SimpleNamespace(root=tmp_path, venv=tmp_path / ".venv", steps=[], failing="", version=None, commands=[])

    def call(command, environment=None):
        state.commands.append(command)
        steps = {"venv": "venv", str(tmp_path / "csrc" / "build.py"): "native", "--editable": "project"}
        steps |= {"uninstall": "removal", "uv": "uv"}
        step = next((steps[word] for word in command if word in steps), "packages")
        state.steps.append(step)
        if step == "venv":
            shutil.rmtree(state.venv, ignore_errors=True)
            state.venv.mkdir()
            state.version = RUNNING
        if step == "packages" and not state.failing:
            (torch_of(state.venv)).mkdir(parents=True, exist_ok=True)
        return 1 if step == state.failing else 0

    monkeypatch.setattr(environment, "call", call)
    monkeypatch.setattr(environment, "venv_version", lambda venv: state.version)
    monkeypatch.setattr(environment, "has_pip", lambda venv: True)
    monkeypatch.setattr(torch_builds, "loads", lambda venv: True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("PYTHON", raising=False)
    free_space(monkeypatch, 100)
    return state
