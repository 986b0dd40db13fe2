"""The folder of a run: whose results lie in it, a disk that fills, machines that do not share it, damaged files."""

import importlib
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dyhead_lab.cli import main
from dyhead_lab.errors import UserError
from dyhead_lab.training import run_folder, train
from dyhead_lab.training.interrupt import Interrupted
from dyhead_lab.training.observer import Silent
from dyhead_lab.training.run_folder import read_json, read_part

from .tiny import quick_recipe

module = importlib.import_module("dyhead_lab.training.train")  # the package gives the function of that name
RESULTS = {"weights.pt", "metrics.json", "detections.json"}


class Watcher(Silent):
    """Asks to stop after an iteration, if one is given, and remembers how the run ended."""

    def __init__(self, last=None):
        self.last, self.iteration, self.ended = last, 0, None

    def advance(self, iteration):
        self.iteration = iteration

    def asks_to_stop(self):
        return self.iteration == self.last

    def end(self, message):
        self.ended = message


def run(pictures, out, observer=None, fresh=False, **changes):
    recipe = quick_recipe(iterations=2, **changes)
    return train(recipe, data=pictures, out=out, fresh=fresh, progress=False, observer=observer or Watcher())


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_fresh_run_leaves_no_result_of_the_run_before(small_pictures, tmp_path):
    run(small_pictures, tmp_path)
    (tmp_path / "nonfinite_1_0.pt").touch()
    (tmp_path / "notes.txt").touch()
    assert names(tmp_path) >= RESULTS
    with pytest.raises(Interrupted):
        run(small_pictures, tmp_path, Watcher(last=1), fresh=True, lr=1e-5)
    assert names(tmp_path) == {"last.pt", "run.json", "log.jsonl", "tensorboard", ".lock", "notes.txt"}
    assert len(read_json(tmp_path / "run.json")["starts"]) == 1


def test_results_that_cannot_be_removed_leave_a_run_that_continues(small_pictures, tmp_path):
    run(small_pictures, tmp_path)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}: "):
        run(small_pictures, tmp_path, fresh=True)
    assert "last.pt" in names(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_named(small_pictures, tmp_path, capsys):
    (tmp_path / "file").touch()
    command = ["train", "quickstart", "--data", str(small_pictures), "--out", str(tmp_path / "file")]
    for word in ("--fresh", "--smoke"):
        assert main([*command, word]) == 1
        assert f"cannot write {tmp_path / 'file'}: Not a directory" in capsys.readouterr().err


class FullBoard:
    """TensorBoard on a full disk: nothing can be written, not even at the end."""

    def __init__(self, log_dir, purge_step):
        self.log_dir = log_dir

    def add_scalar(self, *args):
        raise OSError(28, "No space left on device")

    def close(self):
        raise OSError(28, "No space left on device")


def test_a_disk_that_fills_under_tensorboard_is_named_and_the_observer_hears_the_end(
    small_pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(run_folder, "SummaryWriter", FullBoard)
    watcher = Watcher()
    with pytest.raises(UserError, match=r"cannot write .*tensorboard: No space left on device"):
        run(small_pictures, tmp_path, watcher)
    assert watcher.ended == f"{tmp_path}: failed"


def test_a_disk_that_is_full_at_the_end_does_not_hide_the_result(small_pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(FullBoard, "add_scalar", lambda *args: None)
    monkeypatch.setattr(run_folder, "SummaryWriter", FullBoard)
    watcher = Watcher()
    assert "AP" in run(small_pictures, tmp_path, watcher).numbers and "finished" in watcher.ended


def one_of_two(out, iteration=0):
    """What the check reads of the main one of two processes."""
    return SimpleNamespace(
        out=out, iteration=iteration, accelerator=SimpleNamespace(num_processes=2, is_main_process=True)
    )


@pytest.mark.parametrize(("other", "iterations"), [((False, 0), "0.*0"), ((True, 4), "0.*4"), ((False, 4), "0.*4")])
def test_machines_that_see_different_folders_are_refused(tmp_path, monkeypatch, other, iterations):
    answers = iter([[None], [other]])
    monkeypatch.setattr(module, "gather_list", lambda items, accelerator: [*items, *next(answers)])
    with pytest.raises(UserError, match=rf"run: expected a run folder that all machines share.*{iterations}"):
        module._refuse_folders_apart(one_of_two(tmp_path / "run"))
    assert names(tmp_path / "run") == set()


def test_machines_that_share_a_folder_start_together(tmp_path, monkeypatch):
    answers = iter([[None], [(True, 4)]])
    monkeypatch.setattr(module, "gather_list", lambda items, accelerator: [*items, *next(answers)])
    module._refuse_folders_apart(one_of_two(tmp_path / "run", iteration=4))
    assert names(tmp_path / "run") == set()


def test_one_process_asks_nobody(small_pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_refuse_folders_apart", None)
    run(small_pictures, tmp_path)


CELL = """
import os
from accelerate import notebook_launcher
def cell():
    from dyhead_lab.training import train
    from tests.training.tiny import quick_recipe
    out = {out!r} + os.environ["RANK"]
    train(quick_recipe(iterations=2), data={data!r}, out=out, progress=False)
notebook_launcher(cell, num_processes=2)
"""


def test_two_processes_with_a_folder_each_do_not_start(small_pictures, tmp_path):
    """One continues, the other would start: as two machines do without a disk that they share."""
    run(small_pictures, tmp_path / "run0")
    before = (tmp_path / "run0/log.jsonl").read_bytes()
    settings = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    cell = CELL.format(out=str(tmp_path / "run"), data=str(small_pictures))
    done = subprocess.run(
        [sys.executable, "-c", cell],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,  # processes apart would wait for each other for ever
    )
    assert done.returncode != 0
    assert "(iterations: process 0 at 2, process 1 at 0); choose an --out on a shared disk" in done.stderr
    assert (tmp_path / "run0/log.jsonl").read_bytes() == before and not (tmp_path / "run1").exists()


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"settings": {}})])
def test_a_damaged_origin_is_named(small_pictures, tmp_path, content):
    with pytest.raises(Interrupted):
        run(small_pictures, tmp_path, Watcher(last=1))
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"run\.json: damaged"):
        run(small_pictures, tmp_path)


def test_parts_of_a_file_are_read_by_name(tmp_path):
    (tmp_path / "run.json").write_text('{"starts": [1]}', encoding="utf-8")
    assert read_part(tmp_path / "run.json", "starts") == [1]
    with pytest.raises(UserError, match=r"run\.json: damaged \(no settings\)"):
        read_part(tmp_path / "run.json", "settings")
