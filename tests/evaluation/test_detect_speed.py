"""``dyhead-lab bench detect``: who takes part, on which weights and pixels, and the record. No time is asserted."""

import json

import pytest

from dyhead_lab.cli import main
from dyhead_lab.evaluation import detect_speed
from dyhead_lab.zoo import load_trained


@pytest.fixture(autouse=True)
def float32_alone(monkeypatch):
    monkeypatch.setattr(detect_speed, "has_bfloat16", lambda device: False)


def test_transformers_takes_part_on_the_same_weights():
    pytest.importorskip("transformers", minversion="5", reason="needs transformers (a test dependency)")
    pytest.importorskip("timm")
    small = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 64, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    said = []
    with detect_speed.random_weights(**small, num_queries=20) as folder:
        trained = load_trained(folder)
        rows = detect_speed.rows_of("random", trained.model, folder, (64, 96), 1, said.append)
    assert [row["who"] for row in rows] == ["as it is", "prepared", "transformers"] and len(said) == 3
    for row in rows:  # float32 sums in another order
        assert row["probabilities_differ_by"] < 1e-4 and row["boxes_differ_by"] < 1e-4
        assert row["times_faster_than_the_last"] == pytest.approx(rows[-1]["median_ms"] / row["median_ms"])


def test_the_command_keeps_a_record(tmp_path, capsys):
    out = tmp_path / "bench_detect.json"
    names = ["deformable_detr_tiny", "quickstart"]
    assert main(["bench", "detect", "--weights", *names, "--size", "64", "96", "--rounds", "1", "--out", str(out)]) == 0
    record = json.loads(out.read_text(encoding="utf-8"))["cpu"]
    assert {row["weights"] for row in record["rows"]} == set(names)
    assert all(row["image"] == "64 x 96" and row["precision"] == "float32" for row in record["rows"])
    assert record["machine"]["device"] and record["machine"]["threads"] >= 1
    assert "prepared" in capsys.readouterr().out


def test_numbers_that_measure_nothing_are_refused(capsys):
    assert main(["bench", "detect", "--rounds", "0"]) == 1
    assert "--rounds: expected at least 1" in capsys.readouterr().err
