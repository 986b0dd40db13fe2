"""The prepared first run on a GPU, without one: what it would run exists, and a step that fails stops no other."""

import os
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from dyhead_lab import cli

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "first_gpu_run.sh"
STEPS = ["build", "doctor", "cases", "full_size", "backends", "races", "bench_ops", "bench_dyhead"]


def run(*arguments, **environment):
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)], env=os.environ | environment, text=True, capture_output=True
    )


@pytest.fixture
def planned():
    """Name, seconds and words of each step."""
    done = run(DRY_RUN="1", PYTHON="python")
    assert done.returncode == 0 and done.stderr == ""
    lines = re.findall(r"^### (\w+), at \d+ s, for (\d+) s at most: (.*)$", done.stdout, re.MULTILINE)
    return [(name, int(seconds), words) for name, seconds, words in lines]


def test_it_would_run_what_exists(planned, monkeypatch):
    assert [name for name, _, _ in planned] == STEPS
    files = re.findall(r"\S+/\S+\.py", " ".join(words for *_, words in planned))
    assert len(files) > 8 and all((ROOT / file).is_file() for file in files)
    for *_, words in planned:
        _, marker, command = words.partition("-m dyhead_lab.cli ")
        if marker:
            name, *_ = arguments = shlex.split(command)
            monkeypatch.setattr(import_module(cli.COMMANDS[name][0]), "run", lambda args: 0)
            assert cli.main(arguments) == 0


def test_a_step_that_fails_is_told_and_stops_no_other(tmp_path):
    """Programs that only say what they were asked for; the doctor is ill, and there is no compute-sanitizer."""
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\necho "$DYHEAD_CUDA_ARCHS asked for $*"\n[[ "$*" != *doctor ]]\n', "utf-8")
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/bash\n[ -n "$1" ] && echo 9.0 || echo "a GPU"\n', "utf-8")
    for program in (python, smi):
        program.chmod(0o755)
    done = run(tmp_path / "results", PYTHON=str(python), PATH=f"{tmp_path}:/usr/bin:/bin")
    told = dict(re.findall(r"^### (\w+): (done|FAILED with \d+), at", done.stdout, re.MULTILINE))
    assert done.returncode == 1 and list(told) == STEPS
    failed = {name: answer for name, answer in told.items() if answer != "done"}
    assert failed == {"doctor": "FAILED with 1", "races": "FAILED with 127"}
    assert (tmp_path / "results" / "build.log").read_text("utf-8") == "90 asked for csrc/build.py\n"
    assert (tmp_path / "results" / "machine.log").read_text("utf-8") == "a GPU\n"
