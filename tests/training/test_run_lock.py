"""Of two trainings in one folder the second is refused, and the first loses nothing."""

import subprocess
import sys

import pytest

from dyhead_lab.errors import UserError
from dyhead_lab.training import train
from dyhead_lab.training.run_lock import LOCK, alone_in

from .tiny import quick_recipe, write_pictures

HOLDS_THE_LOCK = """
import sys
from dyhead_lab.platforms import try_lock
file = open(sys.argv[1], "a+", encoding="utf-8")
print(try_lock(file.fileno()), flush=True)
file.write("process 7 on there")
file.flush()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that trains in the folder, as far as its lock tells."""
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["True\n", "ready\n"]
        yield process
        process.kill()


def test_the_second_is_refused_until_the_first_is_gone_however_it_went(other, tmp_path):
    with pytest.raises(UserError, match=r"process 7 on there is training in this folder"), alone_in(tmp_path):
        pass
    other.kill()
    other.wait()
    with alone_in(tmp_path):
        assert "process 7" not in (tmp_path / LOCK).read_text(encoding="utf-8")


def test_a_training_that_is_refused_changes_nothing(other, tmp_path):
    write_pictures(tmp_path / "pictures")
    (tmp_path / "last.pt").write_bytes(b"of the first")
    with pytest.raises(UserError, match="is training in this folder"):
        train(quick_recipe(), data=tmp_path / "pictures", out=tmp_path, fresh=True, progress=False)
    assert (tmp_path / "last.pt").read_bytes() == b"of the first" and not (tmp_path / "log.jsonl").exists()
