"""What is told of a GPU: a measurement of this machine, or of another one with its name and date, or nothing."""

import torch

from dyhead_book.practice import gpu_report as module
from dyhead_book.practice.gpu_report import gpu_report
from dyhead_lab.ops import native


def test_without_a_gpu_nothing_is_claimed():
    if native.available("cuda"):
        assert torch.cuda.get_device_name() in gpu_report(channels=16, size=(8, 8), repeats=2)
    else:
        assert gpu_report().startswith("Not measured on a GPU.")


def test_what_was_recorded_on_another_gpu_is_told_with_machine_and_date(monkeypatch):
    row = {"problem": "conv", "pass": "forward", "peer": "torchvision", "times_faster_than_peer": 4.0}
    rows = [{**row, "who": "dyhead_lab", "median_ms": 0.5}, {**row, "who": "torchvision", "median_ms": 2.0}]
    table = {"machine": {"device": "a GPU", "torch": "2.11", "date": "2026-01-01"}, "rows": rows}
    monkeypatch.setattr(module, "recorded", lambda device: table)
    monkeypatch.setattr(native, "why_missing", lambda kind: "torch sees none.")
    lines = gpu_report().splitlines()
    assert lines[1] == "Recorded on a GPU, torch 2.11, 2026-01-01 (medians):"
    assert lines[2:] == ["conv: dyhead_lab 0.500 ms, 4.0 x torchvision"]
