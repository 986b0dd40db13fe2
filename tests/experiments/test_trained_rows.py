"""Rows that train keep AP on the way, and what the detector costs."""

import pytest
import torch

from dyhead_lab.attention import PaperDyHeadBlock
from dyhead_lab.detectors.one_stage.frozen_atss import CHANNELS
from dyhead_lab.evaluation.dyhead_cost import depth_macs, tower_macs
from dyhead_lab.experiments.ablation import ABLATION, PLAIN
from dyhead_lab.experiments.attention_order import LEVELS, SpatialFirst
from dyhead_lab.experiments.curves import curve
from dyhead_lab.experiments.depth import DEPTH
from dyhead_lab.experiments.experiment import Experiment, run_experiment
from dyhead_lab.experiments.forms import FORMS_EXPERIMENT
from dyhead_lab.experiments.trained_rows import SIZE
from dyhead_lab.zoo import load_trained

SMOKE = {"iterations": 2, "evaluate_every": 1, "batch_size": 2, "warmup": 1}


def measured(experiment, row, pictures, folder):
    few = Experiment(experiment.name, "", {row: experiment.rows[row]}, row, experiment.metrics)
    return run_experiment(few, folder, [0], pictures, SMOKE, say=lambda line: None)


def test_a_row_keeps_its_curve_and_its_cost(pictures, tmp_path):
    record = measured(ABLATION, PLAIN, pictures, tmp_path)
    numbers = record.runs[PLAIN][0]
    assert [step for step, _ in curve(record, PLAIN)] == [1, 2]
    model = load_trained(tmp_path / "plain_towers" / "seed0").model
    assert numbers["k parameters"] == sum(p.numel() for p in model.parameters()) / 1000


def test_costs_of_two_rows_differ_by_what_they_differ_in(pictures, tmp_path):
    macs = {
        row: measured(experiment, row, pictures, tmp_path).runs[row][0]["MMAC"]
        for experiment, row in ((DEPTH, "no block"), (DEPTH, "2 blocks"), (ABLATION, PLAIN))
    }
    # the frozen pyramid has no P7: one level fewer than the published cost counts
    blocks, towers = depth_macs((2,), SIZE, 64)[2] / 1e6, tower_macs(SIZE, 64) / 1e6
    assert macs["2 blocks"] - macs["no block"] == pytest.approx(blocks, rel=0.02)
    assert macs[PLAIN] - macs["no block"] == pytest.approx(towers, rel=0.02)


def test_the_paper_form_is_trained(pictures, tmp_path):
    measured(FORMS_EXPERIMENT, "paper", pictures, tmp_path)
    assert load_trained(tmp_path / "paper" / "seed0").model.backbone.neck.form == "paper"


def test_another_order_has_the_same_parts_and_another_result(pictures, tmp_path):
    row = "paper, spatial first"
    assert measured(FORMS_EXPERIMENT, row, pictures, tmp_path).runs[row][0]["MMAC"] > 0
    [block] = FORMS_EXPERIMENT.rows[row].recipe.build(6).backbone.neck.blocks
    assert isinstance(block, SpatialFirst)
    usual = PaperDyHeadBlock(CHANNELS, LEVELS).eval()
    usual.load_state_dict(block.state_dict())
    F_BLSC = torch.rand(1, LEVELS, 12, CHANNELS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(block.eval()(F_BLSC, (3, 4)), usual(F_BLSC, (3, 4)), atol=1e-3)
