"""``kill -9`` in the middle of a run, then the same command again: it continues and ends with the same weights."""

import os
import re
import signal
import subprocess
import sys
import time

import torch

from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.training.checkpoint import CHECKPOINT, read


def command(data, out):
    settings = ["iterations=8", "batch_size=2", "checkpoint_every=1", "warmup=2", "model.image_size=64"]
    pairs = [word for setting in settings for word in ("--set", setting)]
    return [
        sys.executable,
        "-m",
        "dyhead_lab.cli",
        "train",
        "quickstart",
        "--data",
        str(data),
        "--out",
        str(out),
        *pairs,
    ]


def test_a_killed_run_continues(tmp_path):
    write_shapes(tmp_path / "data" / "train", images=4, seed=1, size=64)
    write_shapes(tmp_path / "data" / "val", images=2, seed=2, size=64)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}

    victim = subprocess.Popen(command(tmp_path / "data", tmp_path / "killed"), **run)
    while not (tmp_path / "killed" / "last.pt").exists():
        assert victim.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert read(tmp_path / "killed" / "last.pt", CHECKPOINT)["iteration"] < 8

    again = subprocess.run(command(tmp_path / "data", tmp_path / "killed"), **run, check=True)
    whole = subprocess.run(command(tmp_path / "data", tmp_path / "whole"), **run, check=True)
    assert re.search(r"continuing at iteration [1-7] of 8", again.stdout) and "continuing" not in whole.stdout
    killed, uninterrupted = (read(tmp_path / name / "last.pt", CHECKPOINT) for name in ("killed", "whole"))
    for name, value in uninterrupted["averaged"].items():
        assert torch.equal(value, killed["averaged"][name]), name
