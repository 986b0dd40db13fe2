"""A run killed ten times, for ``test_kill.py``. Lives are forks, so that Python and PyTorch are imported once."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from dyhead_lab.training import train
from dyhead_lab.training.checkpoint import CHECKPOINT, read

from .tiny import quick_recipe

KILLS = 10
RECIPE = quick_recipe(iterations=60, checkpoint_every=1, evaluate_every=7, schedule="step", milestones=(30,))


def start(folder, name):
    """A process that trains to the end in ``folder / name``."""
    life = os.fork()
    if life:
        return life
    status = 1
    try:
        torch.set_num_threads(1)
        train(RECIPE, data=folder / "data", out=folder / name, progress=False)
        status = 0
    finally:
        os._exit(status)


def wait_for_checkpoint(path, life):
    """Seconds until ``path`` is written anew."""
    before, since = changed(path), time.perf_counter()
    while changed(path) == before:
        assert os.waitpid(life, os.WNOHANG) == (0, 0), "the run ended by itself"
        time.sleep(0.001)
    return time.perf_counter() - since


def changed(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def main(folder):
    moments = random.Random(0)
    checkpoint = folder / "killed" / "last.pt"
    for _ in range(KILLS):
        life = start(folder, "killed")
        seconds = [wait_for_checkpoint(checkpoint, life) for _ in range(moments.randint(2, 4))]
        time.sleep(moments.uniform(0, seconds[-1]))  # anywhere in a step or in the writing of its checkpoint
        os.kill(life, signal.SIGKILL)
        os.waitpid(life, 0)
        print("killed after iteration", read(checkpoint, CHECKPOINT)["iteration"])
    for name in ("killed", "whole"):
        _, status = os.waitpid(start(folder, name), 0)
        if status:
            sys.exit(f"{name}: ended with status {status}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
