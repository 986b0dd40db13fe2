"""The ways to start several processes that the documentation names, each for two steps with an evaluation between."""

import json
import os
import subprocess
import sys

import pytest

SETTINGS = {"iterations": 2, "evaluate_every": 1, "batch_size": 2, "warmup": 0, "precision": "fp32"}
MODEL = {"model.image_size": 32, "model.dyhead_blocks": 0, "model.tower_convs": 0}
CELL = """
from accelerate import notebook_launcher
def cell():
    from dyhead_lab import zoo
    from dyhead_lab.training import train
    train(zoo.get("quickstart"), data={data!r}, out={out!r}, progress=False, changes={changes!r})
notebook_launcher(cell, num_processes=2)
"""


def accelerate_launch(data, out, changes):
    """``--multi_gpu`` because Accelerate would start only one process on a machine without a GPU."""
    pairs = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    return [*launcher, "-m", "dyhead_lab.cli", "train", "quickstart", "--data", data, "--out", out, *pairs]


def notebook_cell(data, out, changes):
    return ["-c", CELL.format(data=data, out=out, changes=changes)]


@pytest.mark.parametrize("launcher", [accelerate_launch, notebook_cell])
def test_two_processes_train_together(launcher, small_pictures, tmp_path):
    command = launcher(str(small_pictures), str(tmp_path / "run"), {**SETTINGS, **MODEL})
    settings = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, **settings}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["iteration"] for entry in entries if "AP" in entry] == [1, 2]  # both trained, one wrote
    assert {"last.pt", "weights.pt"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert done.stdout.count("run folder") == (launcher is accelerate_launch)  # one of two says where
