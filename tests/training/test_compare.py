"""``dyhead-lab compare`` on logs that it cannot draw, folders given twice and files that are damaged."""

import json

import pytest

from dyhead_lab.cli import main

LOSS = '{"iteration": 20, "loss": 3.0, "lr": 0.1, "images_per_second": 2.0}\n'
PROBE_ONLY = '{"iteration": 2, "scale_ratio/1/1": 0.5}\n'


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "log.jsonl").write_text(LOSS, encoding="utf-8")
    return folder


def refusal(capsys, *runs):
    """What the command says where it fails."""
    words = [str(run) for run in runs]
    assert main(["compare", *words, "--out", str(runs[0] / "curves.svg")]) == 1
    return capsys.readouterr().err


def test_a_run_without_losses_or_evaluations_cannot_be_drawn(run, capsys):
    (run / "log.jsonl").write_text(PROBE_ONLY, encoding="utf-8")
    assert f"expected losses or evaluations in the log of {run}, found none" in refusal(capsys, run)
    assert not (run / "curves.svg").exists()


def test_a_run_that_is_given_twice_is_named(run, capsys):
    again = run / ".." / "a"
    assert f"{again}: expected each run once, got it twice" in refusal(capsys, run, again)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_origin_is_named(run, capsys, content):
    (run / "run.json").write_text(content, encoding="utf-8")
    assert f"{run / 'run.json'}: damaged" in refusal(capsys, run)


def test_a_log_of_bytes_is_named(run, capsys):
    (run / "log.jsonl").write_bytes(b"\xff\xfe")
    assert f"{run / 'log.jsonl'}: damaged" in refusal(capsys, run)


def test_other_detectors_and_data_are_a_difference(run, capsys):
    """Two runs may have the same settings and differ in what was trained, and on what."""
    other = run.with_name("b")
    for folder, detector in ((run, "net:Mine"), (other, "net:Yours")):
        folder.mkdir(exist_ok=True)
        (folder / "log.jsonl").write_text(LOSS, encoding="utf-8")
        origin = {"settings": {"lr": 0.1}, "detector": detector, "dataset": "dots:dots"}
        (folder / "run.json").write_text(json.dumps(origin), encoding="utf-8")
    assert main(["compare", str(run), str(other), "--out", str(run / "curves.svg")]) == 0
    printed = capsys.readouterr().out
    assert "detector: a net:Mine, b net:Yours" in printed and "dataset:" not in printed and "lr:" not in printed
    assert "start:" not in printed and "data:" not in printed


def test_another_start_and_other_files_are_a_difference(run, capsys):
    """With ``--from`` and ``--data`` the settings are the same."""
    other = run.with_name("b")
    for folder, start, split in ((run, None, "cells"), (other, "/w/quickstart.pt", "fish")):
        folder.mkdir(exist_ok=True)
        (folder / "log.jsonl").write_text(LOSS, encoding="utf-8")
        data = {name: {"annotations": f"/{split}/{name}.json", "images": 4} for name in ("train", "val")}
        origin = {"settings": {"lr": 0.1}, "start": start, "data": data}
        (folder / "run.json").write_text(json.dumps(origin), encoding="utf-8")
    assert main(["compare", str(run), str(other), "--out", str(run / "curves.svg")]) == 0
    printed = capsys.readouterr().out
    assert "start: a None, b /w/quickstart.pt" in printed
    assert "val data: a /cells/val.json (4 images), b /fish/val.json (4 images)" in printed
    assert "train data: a /cells/train.json (4 images), b /fish/train.json (4 images)" in printed
