"""What Sparse DETR costs: affine in rho, and as the paper says."""

import pytest
import torch

from dyhead_lab.cli import main
from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.sparse_detr import SparseDETR, SparseDETRConfig
from dyhead_lab.evaluation.efficiency import macs
from dyhead_lab.evaluation.sparse_efficiency import PUBLISHED, encoder_seconds, sparse_detr_macs, table


def test_the_count_is_that_of_a_model_at_work():
    config = SparseDETRConfig(
        encoder_layers=2, decoder_layers=1, queries=10, feedforward=64, classes=5, encoder_aux_loss=False
    )
    model, image = SparseDETR(config, ResNetBackbone()).eval(), torch.rand(3, 96, 128)
    with torch.no_grad():
        at_work = macs(model, lambda: model([image], rho=0.25))
    counted = sparse_detr_macs(0.25, (96, 128), config)
    assert counted.encoder == at_work["transformer.encoder"]
    # The counter does not know the CPU's fused attention: two products of 10 x 10 queries in 256 channels.
    assert counted.whole == at_work[""] + 2 * 10 * 10 * 256


def test_the_encoder_is_affine_in_rho_and_dense_at_one():
    """At 800 x 1066, and without the sampling itself: about 7.0 + 73.6 rho GMAC."""
    tenth, half, all_kept, dense = (sparse_detr_macs(rho).encoder / 1e9 for rho in (0.1, 0.5, 1.0, None))
    slope = (half - tenth) / 0.4
    # One token more or less, and its attention: 0.004 GMAC.
    assert all_kept == pytest.approx(tenth + 0.9 * slope, abs=0.01)
    assert all_kept == pytest.approx(dense, abs=0.01)
    assert tenth - 0.1 * slope == pytest.approx(7.0, abs=0.1)  # six value projections of 17,821 tokens
    sampling = 6 * 17_821 * 8 * 16 * 32 * 5 / 1e9  # layers, tokens, heads, points, channels, five each
    assert slope == pytest.approx(73.6 + sampling, rel=0.01)


def test_the_whole_is_the_published_one():
    ours = {rho: sparse_detr_macs(rho).whole / 1e9 for rho in (0.1, 0.5)}
    for rho, whole in ours.items():
        assert whole == pytest.approx(PUBLISHED[rho], rel=0.005)  # they averaged over images
    assert ours[0.5] - ours[0.1] == pytest.approx(PUBLISHED[0.5] - PUBLISHED[0.1], rel=0.03)
    assert sparse_detr_macs(None, (850, 1040)).whole / 1e9 == pytest.approx(PUBLISHED[None], rel=0.005)


def test_the_table_has_a_row_per_rho_and_one_for_the_dense_encoder(monkeypatch):
    monkeypatch.setattr(
        "dyhead_lab.evaluation.sparse_efficiency.encoder_seconds", lambda rhos, *_: dict.fromkeys(rhos, 0.5)
    )
    first, header, *rows = table([0.1, 1.0], (64, 96)).splitlines()
    assert "64 x 96" in first and "encoder ms" in header
    assert [row.split()[0] for row in rows] == ["0.1", "1", "dense"]
    assert rows[0].split()[7] == "105.4" and rows[1].split()[7] == "-"


def test_times_are_measured_for_every_rho():
    seconds = encoder_seconds([0.1, None], (64, 96), runs=1)
    assert list(seconds) == [0.1, None] and all(value > 0 for value in seconds.values())


def test_command_prints_the_table_and_refuses_shares_that_are_none(capsys):
    assert main(["efficiency", "sparse_detr", "--rho", "0.5", "--size", "64x96", "--runs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "one image of 64 x 96 pixels" in printed and "\n0.5 " in printed and "\ndense " in printed
    assert main(["efficiency", "sparse_detr", "--rho", "1.5"]) == 1
    assert "--rho: expected numbers in (0, 1], got 1.5" in capsys.readouterr().err
    assert main(["efficiency", "quickstart", "--rho", "0.5"]) == 1
    assert "only sparse_detr has it" in capsys.readouterr().err
