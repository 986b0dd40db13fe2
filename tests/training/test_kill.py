"""``kill -9`` at ten random moments of a run, which is started again each time: it ends with the same weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dyhead_lab.training.checkpoint import CHECKPOINT, read

from .tiny import write_pictures

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run that was killed ten times and of one that was left alone, and what was printed."""
    folder = tmp_path_factory.mktemp("kill")
    write_pictures(folder / "data")
    command = [sys.executable, "-m", "tests.training.kill_and_continue", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


def test_it_was_killed_ten_times_at_different_iterations(runs):
    found = [int(line.split()[-1]) for line in runs[1].splitlines() if line.startswith("killed")]
    assert len(found) == 10 and found == sorted(found) and len(set(found)) > 5


def test_the_weights_are_those_of_an_uninterrupted_run(runs):
    """Bit for bit: on one machine, order, transforms and arithmetic are functions of the recipe."""
    killed, whole = (read(runs[0] / name / "last.pt", CHECKPOINT) for name in ("killed", "whole"))
    assert killed["iteration"] == whole["iteration"]
    for part in ("model", "averaged"):
        for name, value in whole[part].items():
            assert torch.equal(value, killed[part][name]), name
    moments = [run["optimizer"]["state"] for run in (killed, whole)]
    assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[1])


def test_the_log_has_every_line_once(runs):
    killed, whole = (
        [line for line in (runs[0] / name / "log.jsonl").open(encoding="utf-8")] for name in ("killed", "whole")
    )
    assert len(killed) == len(set(killed)) == len(whole)
