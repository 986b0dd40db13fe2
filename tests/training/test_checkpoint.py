"""Files of a run: whole or not there, and refused by name when damaged."""

import json

import pytest
import torch

from dyhead_lab.errors import UserError
from dyhead_lab.training import checkpoint
from dyhead_lab.training.checkpoint import CHECKPOINT, WEIGHTS, RunLog, read, write_atomically

#: The least that a file of weights and a checkpoint hold.
KEPT = {"format": WEIGHTS, "recipe": "r", "options": {}, "categories": [], "state_dict": {}}
STATE = {"format": CHECKPOINT, "settings": {}, "iteration": 1, "model": {}, "averaged": {}, "optimizer": {}}


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "a.pt"
    write_atomically(path, {**KEPT, "x": torch.arange(3)})
    assert torch.equal(read(path, WEIGHTS)["x"], torch.arange(3))
    assert [p.name for p in path.parent.iterdir()] == ["a.pt"]


def test_a_full_disk_keeps_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    write_atomically(path, STATE)

    def full(content, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(UserError, match=r"last\.pt.*No space left.*still the previous one"):
        write_atomically(path, {"format": CHECKPOINT, "iteration": 2})
    monkeypatch.undo()
    assert read(path, CHECKPOINT)["iteration"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_real_full_disk_keeps_the_previous_file(tmp_path):
    """``/dev/full`` is a disk on which every write fails."""
    path = tmp_path / "last.pt"
    write_atomically(path, STATE)
    (tmp_path / "last.pt.partial").symlink_to("/dev/full")
    with pytest.raises(
        UserError, match=r"cannot write .*last\.pt: No space left on device; last.pt is still the previous"
    ):
        write_atomically(path, {"format": CHECKPOINT, "x": torch.zeros(100_000)})
    assert read(path, CHECKPOINT)["iteration"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*file/run/last\.pt"):
        write_atomically(tmp_path / "file" / "run" / "last.pt", {"format": CHECKPOINT})


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*file/log\.jsonl: File exists"):
        RunLog(tmp_path / "file" / "log.jsonl", iteration=0)
    log = RunLog(tmp_path / "log.jsonl", iteration=0)
    log.path = tmp_path / "full"
    log.path.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*full: No space left"):
        log.add(1, loss=2.0)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_files_are_refused_by_name(tmp_path, damage):
    path = tmp_path / "w.pt"
    write_atomically(path, {**KEPT, "x": torch.zeros(1000)})
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(UserError, match=r"w\.pt: damaged"):
        read(path, WEIGHTS)


def test_foreign_and_missing_files_are_refused_by_name(tmp_path):
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="expected a file of format"):
        read(tmp_path / "other.pt", WEIGHTS)
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "missing.pt", WEIGHTS)


@pytest.mark.parametrize("whole", [KEPT, STATE])
def test_files_that_lack_a_part_are_refused_by_name(tmp_path, whole):
    *kept, last, lost = whole
    write_atomically(tmp_path / "w.pt", {name: whole[name] for name in kept})
    with pytest.raises(UserError, match=rf"w\.pt: damaged \(no {last}, {lost}\)"):
        read(tmp_path / "w.pt", whole["format"])


def test_a_log_of_bytes_is_refused_by_name(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"iteration": 20, "loss": 3}\n\xff\xfe\x80\n')
    with pytest.raises(UserError, match=r"log\.jsonl: damaged .*0xff"):
        RunLog.entries(path)


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"iteration": 20, "loss": 3}\n{"iteration": 40, "loss": 2}\n{"iteration": 60, "lo')
    log = RunLog(path, iteration=20)
    log.add(40, loss=2.5)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"iteration": 20, "loss": 3},
        {"iteration": 40, "loss": 2.5},
    ]
