"""Every supported Python is tried in an environment of its own; one that is missing, or fails, is told."""

import shutil
import stat
import subprocess
import tomllib
from types import SimpleNamespace

import pytest
from packaging.specifiers import SpecifierSet

from .house import ROOT, environment, free_space, load

versions = load("versions")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that has Python 3.11 and 3.13; set-ups and tests are noted instead of run, copies are real.

    ``failing`` holds words: a command fails where the copy's name or one of its own words is among them.
    """
    (tmp_path / "project" / "old").mkdir(parents=True)
    for name in ("constraints.txt", "constraints-cuda.txt", "old/one.py"):
        (tmp_path / "project" / name).write_text("torch==2.11.0\n", encoding="utf-8")
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=tmp_path / "project", check=True)
    state = SimpleNamespace(calls=[], failing=set(), root=tmp_path / "project", copies=tmp_path / "copies")

    def call(command, cwd=None, **options):
        if cwd:
            state.calls.append((cwd.name, *map(str, command[1:])))
            (cwd / ".venv").mkdir(exist_ok=True)
        return int(bool(state.failing & {*map(str, command), cwd and cwd.name}))

    monkeypatch.setattr(versions, "supported_versions", lambda: ["3.11", "3.12", "3.13"])
    monkeypatch.setattr(versions, "ROOT", state.root)
    monkeypatch.setattr(versions, "FOLDER", state.copies)
    monkeypatch.setattr(versions, "interpreter", {"3.11": "/usr/bin/python3.11", "3.13": "/pyenv/python3.13"}.get)
    monkeypatch.setattr(environment, "venv_version", lambda venv: (3, 11))
    monkeypatch.setattr(subprocess, "call", call)
    free_space(monkeypatch, 100)
    return state


def test_every_version_that_is_here_is_set_up_and_tested_and_a_missing_one_is_told(machine, capsys):
    assert versions.main([]) == 0
    assert [call[:2] for call in machine.calls] == [
        *(("3.11", "scripts/bootstrap.py"), ("3.11", "-m")),
        *(("3.13", "scripts/bootstrap.py"), ("3.13", "-m")),
    ]
    told = capsys.readouterr().out
    assert "Python, passed: 3.11, 3.13\nPython, not tried: 3.12 (no python3.12 on the path" in told
    assert not list(machine.copies.glob("*/.venv")), "the environments are deleted"


def test_a_version_that_fails_is_told_and_the_others_are_tried_all_the_same(machine, capsys):
    machine.failing = {"3.11"}
    assert versions.main([]) == 1
    told = capsys.readouterr().out
    assert "Python, FAILED: 3.11 (status 1)" in told and "Python, passed: 3.13\n" in told


def test_only_missing_ones_are_no_success(machine):
    assert versions.main(["--python", "3.12"]) == 1 and machine.calls == []


class TestOthers:
    """As CI calls it: a missing version is no failure, a failing test is one."""

    def test_that_of_the_environment_is_left_out_and_the_last_one_gets_the_newest_packages(self, machine, capsys):
        assert versions.main(["--others", "--", "-n", "2"]) == 0
        assert [call[0] for call in machine.calls] == ["3.13-newest"] * 2 and machine.calls[-1][-2:] == ("-n", "2")
        told = capsys.readouterr().out
        assert "passed: 3.13 with the newest packages\n" in told and "not tried: 3.12 (" in told

    def test_a_machine_with_no_other_is_no_failure(self, machine, monkeypatch):
        monkeypatch.setattr(versions, "interpreter", lambda version: None)
        assert versions.main(["--others"]) == 0 and machine.calls == []

    @pytest.fixture
    def pinned(self, monkeypatch):
        """3.13 is not the last one, and so has the pinned packages."""
        monkeypatch.setattr(versions, "other_versions", lambda supported: ["3.13", "3.12"])

    def test_a_test_that_fails_is_a_failure(self, machine, pinned):
        machine.failing = {"pytest"}
        assert versions.main(["--others"]) == 1

    def test_what_the_newest_packages_break_is_told_alone(self, machine, capsys):
        machine.failing = {"pytest"}
        assert versions.main(["--others"]) == 0
        assert "FAILED, told only: 3.13 with the newest packages (status 1)" in capsys.readouterr().out
        assert versions.main(["--python", "3.13", "--newest"]) == 1

    def test_without_a_network_nothing_is_tried_and_nothing_failed(self, machine, capsys):
        machine.failing = {"scripts/bootstrap.py", "--dry-run"}
        assert versions.main(["--others"]) == 0
        assert "3.13 with the newest packages (its packages cannot be downloaded here)" in capsys.readouterr().out
        assert [call[1] for call in machine.calls] == ["scripts/bootstrap.py"]

    def test_a_set_up_that_fails_although_packages_come_is_a_failure(self, machine, pinned):
        machine.failing = {"scripts/bootstrap.py"}
        assert versions.main(["--others"]) == 1

    def test_a_disk_that_is_short_is_told_before_anything_is_installed(self, machine, monkeypatch, capsys):
        free_space(monkeypatch, 5)
        assert versions.main(["--others"]) == 0
        assert machine.calls == [] and "the disk is short" in capsys.readouterr().out

    def test_none_begins_when_the_time_is_over(self, machine, capsys):
        assert versions.main(["--others", "--minutes", "0"]) == 0
        assert machine.calls == []
        assert "3.13 with the newest packages (no time is left for it)" in capsys.readouterr().out

    def test_ci_calls_it_after_the_tests(self):
        lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
        [call] = [line for line in lines if "scripts/versions.py" in line]
        assert "--others" in call and lines.index(call) > lines.index("make test")


class TestInterpreter:
    """Programs that answer as a Python would, or as pyenv's shim does where no version is chosen."""

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        (tmp_path / "path").mkdir()
        monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))

        def put(name, line):
            program = tmp_path / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            return str(program)

        return put

    def test_the_one_on_the_path_is_taken_where_it_runs(self, place):
        place("pyenv/versions/3.99.1/bin/python", "echo 3.99")
        own = place("path/python3.99", "echo 3.99")
        assert versions.interpreter("3.99") == own

    def test_behind_a_shim_that_only_complains_the_latest_of_pyenv_is_taken(self, place):
        place("path/python3.99", "echo 'pyenv: python3.99: command not found' >&2; exit 127")
        for release in ("3.99.2", "3.99.10", "3.99.9", "3.99.11t"):
            place(f"pyenv/versions/{release}/bin/python", "echo 3.99")
        assert versions.interpreter("3.99").endswith("/3.99.10/bin/python")

    def test_a_program_of_another_version_is_none(self, place):
        place("path/python3.99", "echo 3.98")
        assert versions.interpreter("3.99") is None


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


def test_the_thin_suite_is_there_and_the_versions_are_those_that_may_be_installed():
    assert not [name for name in (*versions.THIN, versions.ONLY_PINNED) if not (ROOT / name).exists()]
    listed = versions.supported_versions()
    assert "3.11" in listed and "3.13" in listed
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in listed)
