"""What goes wrong in the processes that read images is told in one line, and nobody waits for ever."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from dyhead_lab.data.draws import RaisingLoader
from dyhead_lab.data.lost_processes import _Handler
from dyhead_lab.errors import UserError


class Pictures(torch.utils.data.Dataset):
    """Eight pictures; ``strike`` happens where the fourth is read."""

    def __init__(self, strike=lambda: None):
        self.strike = strike

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            self.strike()
        return torch.full((3, 400, 500), float(index)), {"boxes": torch.full((1, 4), float(index)), "image_id": index}


def refusal(loader):
    """The words of a refusal, without the traceback, which would keep processes alive."""
    try:
        list(loader)
    except UserError as error:
        return str(error)
    return "not refused"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_whole_and_in_order(workers):
    read = [(images[0], targets[0]) for images, targets in RaisingLoader(Pictures(), num_workers=workers)]
    assert [target["image_id"] for _, target in read] == list(range(8))
    assert all((image == t["image_id"]).all() and (t["boxes"] == t["image_id"]).all() for image, t in read)


def full(tensor):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")


def test_a_full_shared_memory_is_told_with_what_helps(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # inherited by the processes
    told = refusal(RaisingLoader(Pictures(), batch_size=2, num_workers=1))
    assert "/dev/shm has " in told and "a batch of 2 images does not fit (unable to allocate" in told
    assert "--workers 0" in told and "\n" not in told
    assert refusal(RaisingLoader(Pictures(), batch_size=2)) == "not refused"


SMALL = """
import sys
sys.path.insert(0, {tests!r})
from tests.data.test_reading_processes import Pictures, refusal
from dyhead_lab.data.draws import RaisingLoader
print(refusal(RaisingLoader(Pictures(), batch_size=4, num_workers=2)))
"""


def test_docker_gives_64_mb_and_here_it_is_4():
    """A shared memory of its own, which needs the right to mount one."""
    mounted = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small /dev/shm here")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [*mounted, sys.executable, "-c", SMALL.format(tests=root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("/dev/shm has 4 MB for what processes share; a batch of 4 images does not fit")


def test_a_process_that_is_ended_is_told():
    told = refusal(RaisingLoader(Pictures(lambda: os.kill(os.getpid(), signal.SIGKILL)), num_workers=2))
    assert told.startswith("DataLoader worker (pid") and "of 2 that read images" in told and "\n" not in told


@pytest.mark.parametrize("ended", [1, 2])
def test_what_runs_between_two_batches_is_not_struck(ended):
    """PyTorch raises from the handler of a signal: in whatever runs by then, such as the writing of a checkpoint."""
    before = set(multiprocessing.active_children())
    batches = iter(RaisingLoader(Pictures(), num_workers=2))
    next(batches)
    for process in sorted(set(multiprocessing.active_children()) - before, key=lambda process: process.pid)[:ended]:
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.5)  # what it would strike
    with pytest.raises(UserError, match=r"DataLoader worker \(pid.*of 2 that read images"):
        list(batches)


def test_where_nobody_reads_pytorch_raises_as_ever():
    def raises(number, frame):
        raise RuntimeError("DataLoader worker is killed")

    handler = _Handler(raises)
    with pytest.raises(RuntimeError, match="is killed"):
        handler(signal.SIGCHLD, None)
    handler.readers = 1
    handler(signal.SIGCHLD, None)
    with pytest.raises(RuntimeError, match="is killed"):
        handler.next_of(iter([1]))


def test_a_process_that_hangs_is_not_waited_for_for_ever():
    told = refusal(RaisingLoader(Pictures(lambda: time.sleep(600)), num_workers=1, timeout=1))
    assert told.startswith("DataLoader timed out after 1 seconds") and "--workers 0" in told


def test_a_bug_in_a_data_set_keeps_its_traceback():
    def bug():
        raise RuntimeError("expected 3 numbers")

    with pytest.raises(RuntimeError, match=r"(?s)Caught RuntimeError in DataLoader worker.*expected 3 numbers"):
        list(RaisingLoader(Pictures(bug), num_workers=1))
