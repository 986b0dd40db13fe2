"""Rows of the fine-tuning experiment start from what they say."""

import pytest
import torch

from dyhead_lab.experiments.experiment import Job
from dyhead_lab.experiments.fine_tuning import FINE_TUNING
from dyhead_lab.zoo import load_trained

#: A rate of nearly nothing: what the weights are afterwards, they were at the start.
STILL = {"iterations": 2, "evaluate_every": 2, "batch_size": 2, "warmup": 1, "lr": 1e-9, "model.image_size": 64}


@pytest.mark.parametrize("row", ["from scratch", "from quickstart, lr 0.0005"])
def test_a_row_starts_from_its_weights(row, pictures, tmp_path, monkeypatch):
    fine = FINE_TUNING.rows[row]
    job = Job(0, tmp_path / "run", pictures, STILL)
    assert fine.settings(job)["start"] == fine.start
    fine.measure(job)
    weight = "backbone.body.stem.0.0.weight"
    ours, theirs = (load_trained(w).model.state_dict()[weight] for w in (tmp_path / "run", "quickstart"))
    # weights are kept in half precision: 2^-11 of a number is what rounding may take
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5) == (fine.start == "quickstart")


def test_rows_differ_in_start_and_rate_alone():
    rates = {row: fine.changes.get("lr") for row, fine in FINE_TUNING.rows.items()}
    assert rates.pop("from scratch") is None and len(set(rates.values())) == len(rates)
    for fine in FINE_TUNING.rows.values():
        assert {name: value for name, value in fine.changes.items() if name != "lr"} == {
            "iterations": 600,
            "warmup": 50,
            "evaluate_every": 600,
        }
