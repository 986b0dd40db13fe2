"""The time of a Dynamic Head by itself: every precision takes part, and the command says what it measured."""

import argparse
import json

import pytest
import torch

from dyhead_lab.commands import bench
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation import dyhead_speed
from dyhead_lab.ops.bench import measure


def arguments(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(["dyhead", *words])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_is_a_forward_pass_in_its_precision_and_leaves_the_head_alone(dtype):
    head = dyhead_speed.DyHead(16, 1).eval()
    levels = [torch.randn(1, 16, size, size) for size in (4, 2)]
    out = dyhead_speed._run(head, levels, dtype)()
    assert [level.dtype for level in out] == [dtype] * 2
    with torch.no_grad():
        expected = head(levels)
    # bfloat16 has 8 bits; a block rounds a dozen times.
    assert all((got.float() - e).norm() <= 0.05 * e.norm() for got, e in zip(out, expected, strict=True))


def test_every_precision_takes_its_turns_and_more_of_them_on_a_gpu(monkeypatch):
    monkeypatch.setattr(measure, "in_graph", lambda run: run)
    monkeypatch.setattr(measure, "medians", lambda runs, rounds, device: dict.fromkeys(runs, 0.002))
    assert dyhead_speed.milliseconds("cpu", 1, 1, (64, 64)) == {"float32": 2.0, "bfloat16": 2.0}
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_: self)
    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *size, device: randn(*size))
    names = ["float32", "bfloat16", "TF32"]
    in_graphs = [f"{name} in a graph" for name in names]
    assert list(dyhead_speed.milliseconds("cuda", 1, 1, (64, 64))) == names + in_graphs


def test_the_command_stores_what_it_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dyhead_speed, "milliseconds", lambda device, blocks, batch, size: {"float32": 1.25})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = tmp_path / "bench.json"
    assert bench.run(arguments("--blocks", "2", "--size", "64", "96", "--out", str(file))) == 0
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored["cuda"] == "not measured"
    assert stored["cpu"].pop("machine")["torch"] == torch.__version__.partition("+")[0]
    assert stored["cpu"] == {"blocks": 2, "images": 2, "image size": "64 x 96", "float32, ms": 1.25}
    assert "float32, ms: 1.25" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--blocks 0", "--blocks: expected at least 1, got 0"),
        ("--batch -1", "--batch: expected at least 1, got -1"),
        ("--size 64 0", "--size: expected at least 1, got 64 0"),
    ],
)
def test_numbers_that_measure_nothing_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        bench.run(arguments(*words.split()))


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_file_that_cannot_hold_the_results_is_refused_before_anything_is_measured(content, tmp_path, monkeypatch):
    monkeypatch.setattr(dyhead_speed, "milliseconds", lambda *_: pytest.fail("measured"))
    file = tmp_path / "bench.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="--out"):
        bench.run(arguments("--out", str(file)))
    assert file.read_text(encoding="utf-8") == content
    with pytest.raises(UserError, match="--out"):
        bench.run(arguments("--out", str(file / "below" / "a_file.json")))
