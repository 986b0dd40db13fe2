"""Every supported Python is tried in an environment of its own; one that is missing, or fails, is told."""

import shutil
import subprocess
import tomllib
from types import SimpleNamespace

import pytest
from packaging.specifiers import SpecifierSet

from .house import ROOT, load

versions = load("versions")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that has Python 3.11 and 3.13; set-ups and tests are noted instead of run, copies are real."""
    (tmp_path / "project" / "old").mkdir(parents=True)
    for name in ("constraints.txt", "constraints-cuda.txt", "old/one.py"):
        (tmp_path / "project" / name).write_text("torch==2.11.0\n", encoding="utf-8")
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=tmp_path / "project", check=True)
    state = SimpleNamespace(calls=[], failing=(), root=tmp_path / "project", copies=tmp_path / "copies")

    def call(command, cwd, env):
        state.calls.append((cwd.name, *map(str, command[1:])))
        (cwd / ".venv").mkdir(exist_ok=True)
        return int(cwd.name in state.failing)

    here = {"python3.11": "/usr/bin/python3.11", "python3.13": "/usr/bin/python3.13"}
    monkeypatch.setattr(versions, "supported_versions", lambda: ["3.11", "3.12", "3.13"])
    monkeypatch.setattr(versions, "ROOT", state.root)
    monkeypatch.setattr(versions, "FOLDER", state.copies)
    monkeypatch.setattr(shutil, "which", here.get)
    monkeypatch.setattr(subprocess, "call", call)
    return state


def test_every_version_that_is_here_is_set_up_and_tested_and_a_missing_one_is_told(machine, capsys):
    assert versions.main([]) == 0
    assert [call[:2] for call in machine.calls] == [
        *(("3.11", "scripts/bootstrap.py"), ("3.11", "-m")),
        *(("3.13", "scripts/bootstrap.py"), ("3.13", "-m")),
    ]
    told = capsys.readouterr().out
    assert "Python 3.11: passed" in told and "Python 3.12: not tried: there is no python3.12" in told
    assert not list(machine.copies.glob("*/.venv")), "the environments are deleted"


def test_a_version_that_fails_is_told_and_the_others_are_tried_all_the_same(machine, capsys):
    machine.failing = ("3.11",)
    assert versions.main([]) == 1
    told = capsys.readouterr().out
    assert "Python 3.11: FAILED with status 1" in told and "Python 3.13: passed" in told


def test_only_missing_ones_are_no_success(machine):
    assert versions.main(["--python", "3.12"]) == 1 and machine.calls == []


def test_the_whole_suite_runs_where_it_is_asked_for_and_pytest_gets_what_is_left(machine):
    versions.main(["--python", "3.13", "--full", "--keep", "--", "-n", "2"])
    assert machine.calls[-1] == ("3.13", "-m", "pytest", "-n", "2")
    assert (machine.copies / "3.13" / ".venv").is_dir()


def test_the_newest_packages_are_held_by_no_constraint(machine):
    versions.main(["--python", "3.13", "--newest"])
    assert "==" not in (machine.copies / "3.13-newest" / "constraints.txt").read_text(encoding="utf-8")
    assert machine.calls[-1][-2:] == ("--ignore", "tests/test_versions.py")


def test_a_copy_follows_the_checkout_and_keeps_what_was_built_in_it(machine):
    copy = machine.copies / "3.13"
    versions.refresh(copy, newest=False)
    (copy / ".venv").mkdir()
    (copy / ".gitignore").write_text("built\n", encoding="utf-8")
    (copy / "built").write_text("a library", encoding="utf-8")
    shutil.rmtree(machine.root / "old")
    (machine.root / "constraints.txt").write_text("changed", encoding="utf-8")
    versions.refresh(copy, newest=False)
    assert (copy / "built").is_file() and (copy / ".venv").is_dir() and not (copy / "old/one.py").exists()
    assert (copy / "constraints.txt").read_text(encoding="utf-8") == "changed"


def test_the_thin_suite_is_there_and_the_versions_are_those_that_may_be_installed(monkeypatch):
    assert not [name for name in (*versions.THIN, versions.ONLY_PINNED) if not (ROOT / name).exists()]
    listed = versions.supported_versions()
    assert "3.11" in listed and "3.13" in listed
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in listed)
