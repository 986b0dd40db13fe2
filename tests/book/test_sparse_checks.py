import numpy as np
import pytest

from dyhead_book.c12_sparse_detr.sparse_checks import (
    KEEP_MISTAKES,
    MAP_MISTAKES,
    REFINE_KEPT_MISTAKES,
    check_keep,
    check_map,
    check_refine_kept,
    decoder_attention_map,
    keep,
    refine_kept,
)
from dyhead_book.c12_sparse_detr.sparse_cost_checks import (
    CORR_MISTAKES,
    MACS_MISTAKES,
    check_corr,
    check_encoder_macs,
    corr,
    encoder_macs,
    recorded_table,
)
from dyhead_lab.detectors.detr.sparse_detr import SparseDETRConfig
from dyhead_lab.evaluation.sparse_efficiency import sparse_detr_macs
from dyhead_lab.experiments import catalogue as experiments

from .planted import assert_bugs_are_caught

SUITES = [
    (check_map, decoder_attention_map, MAP_MISTAKES),
    (check_keep, keep, KEEP_MISTAKES),
    (check_refine_kept, refine_kept, REFINE_KEPT_MISTAKES),
    (check_encoder_macs, encoder_macs, MACS_MISTAKES),
    (check_corr, corr, CORR_MISTAKES),
]


@pytest.mark.parametrize(("check", "solution", "bugs"), SUITES, ids=[suite[0].__name__ for suite in SUITES])
def test_the_solution_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_nothing_is_lost_inside_a_map():
    locations, weights = np.full((3, 2, 1, 2, 2), 0.5), np.full((3, 2, 1, 2), 0.25)
    dam = decoder_attention_map(locations, weights, np.array([(4, 5)]), np.array([0]))
    assert dam.sum() == pytest.approx(weights.sum())


@pytest.mark.parametrize("rho", [0.1, 0.5])
def test_the_multiply_adds_are_those_that_are_counted(rho):
    size = (128, 160)
    config = SparseDETRConfig(encoder_layers=2, decoder_layers=1, encoder_aux_loss=False)
    N = sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in (8, 16, 32, 64))
    layer = encoder_macs(N, int(N * rho) + 1, config.channels, config.feedforward, config.heads, 4, 4)
    assert sparse_detr_macs(rho, size, config).encoder == 2 * layer


def test_an_experiment_that_was_not_recorded_says_how_to_measure_it(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    assert "dyhead-lab experiment dynamic_rho measures it" in recorded_table("dynamic_rho")
