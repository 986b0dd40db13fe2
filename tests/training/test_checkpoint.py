"""Files of a run: whole or not there, and refused by name when damaged."""

import json

import pytest
import torch

from dyhead_lab.errors import UserError
from dyhead_lab.training import checkpoint
from dyhead_lab.training.checkpoint import CHECKPOINT, WEIGHTS, RunLog, read, write_atomically, write_whole

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


def test_pages_pictures_and_numbers_too_are_whole_or_as_before(tmp_path):
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    write_whole(path, b"the old page")
    (tmp_path / "page.html.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*page\.html: No space left on device"):
        write_whole(path, b"the new page")
    assert path.read_bytes() == b"the old page" and [p.name for p in tmp_path.iterdir()] == ["page.html"]
    link.symlink_to(path)
    write_whole(link, b"the new page")
    assert link.is_symlink() and path.read_bytes() == b"the new page"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot write .*file/run/last\.pt"):
        write_atomically(tmp_path / "file" / "run" / "last.pt", {"format": CHECKPOINT})


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot write .*file/log\.jsonl: File exists"):
        RunLog(tmp_path / "file" / "log.jsonl", iteration=0)
    log = RunLog(tmp_path / "log.jsonl", iteration=0)
    log.path = tmp_path / "full"
    log.path.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*full: No space left"):
        log.add(1, loss=2.0)


@pytest.mark.parametrize("whole", [KEPT, STATE], ids=["weights", "checkpoint"])
@pytest.mark.parametrize(
    ("damage", "message"), [("truncated", "is cut short"), ("text", "is a text file"), ("empty", "is empty")]
)
def test_damaged_files_are_refused_by_name(tmp_path, whole, damage, message):
    path = tmp_path / "w.pt"
    write_atomically(path, {**whole, "x": torch.zeros(1000)})
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(UserError, match=rf"w\.pt {message}.*\(expected a file of format '{whole['format']}'\)"):
        read(path, whole["format"])


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


@pytest.mark.parametrize(("whole", "part"), [(KEPT, "options"), (KEPT, "categories"), (STATE, "model")])
def test_parts_of_another_type_are_refused_by_name(tmp_path, whole, part):
    write_atomically(tmp_path / "w.pt", {**whole, part: 3})
    with pytest.raises(UserError, match=rf"w\.pt: damaged \({part}: expected a (dict|list), got a int\)"):
        read(tmp_path / "w.pt", whole["format"])


def test_names_of_parallel_training_are_understood(tmp_path):
    write_atomically(tmp_path / "w.pt", {**KEPT, "state_dict": {"module.head.bias": torch.ones(2)}})
    assert list(read(tmp_path / "w.pt", WEIGHTS)["state_dict"]) == ["head.bias"]


def test_weights_that_are_not_finite_give_a_warning(tmp_path):
    write_atomically(tmp_path / "w.pt", {**KEPT, "state_dict": {"head.bias": torch.tensor([float("nan")])}})
    with pytest.warns(UserWarning, match=r"w\.pt: weights that are NaN or infinite in head\.bias;"):
        read(tmp_path / "w.pt", WEIGHTS)


def test_a_log_of_bytes_is_refused_by_name(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"iteration": 20, "loss": 3}\n\xff\xfe\x80\n')
    with pytest.raises(UserError, match=r"log\.jsonl: damaged .*0xff"):
        RunLog.entries(path)


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"iteration": 20, "loss": 3}\n{"iteration": 40, "loss": 2}\n{"iteration": 60, "lo', encoding="utf-8"
    )
    log = RunLog(path, iteration=20)
    log.add(40, loss=2.5)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"iteration": 20, "loss": 3},
        {"iteration": 40, "loss": 2.5},
    ]
