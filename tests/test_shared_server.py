"""A checkout that nobody may write to, under a user whose home cannot be written either, as on a shared server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyhead_lab.data.shapes import write_shapes

ROOT = Path(__file__).resolve().parent.parent

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" && shift && exec "$@"'

#: A training that must be refused, then detection and evaluation with the shipped weights.
PROGRAM = """
import sys
from dyhead_lab.cli import main
data, out = sys.argv[1:]
print(main(["train", "quickstart", "--data", data]))
print(main(["eval", "quickstart", "--data", data]))
print(main(["train", "quickstart", "--data", data, "--out", out, "--set", "iterations=1", "--set", "batch_size=1"]))
"""


def test_a_read_only_checkout_and_home_take_one_clear_line(tmp_path):
    start = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(ROOT)]
    if subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    for split in ("train", "val"):
        write_shapes(tmp_path / split, 2, 1)
    elsewhere = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "DYHEAD_DATA", "DYHEAD_READER")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    environment |= {"HOME": "/proc/no-home", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "notebooks")])}
    command = [*start, sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert [line for line in done.stdout.splitlines() if line in ("0", "1")] == ["1", "0", "0"]
    assert "dyhead-lab train: cannot write runs/quickstart: " in done.stderr
    assert "can only be read; choose another folder with --out" in done.stderr
    assert (tmp_path / "run" / "weights.pt").exists()
