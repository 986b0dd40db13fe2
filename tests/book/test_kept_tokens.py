import numpy as np
import pytest
import torch

from dyhead_book.c12_sparse_detr.kept_tokens import kept_figure, maps_figure, scorer_figure, share_ap_figure

IMAGE = torch.full((3, 32, 48), 0.5)


def test_kept_tokens_let_the_image_through():
    kept = torch.tensor([[True, False]])
    figure = kept_figure(IMAGE, {"rho 0.5": [kept]})
    (axes,) = figure.axes
    shown = np.asarray(axes.images[0].get_array())
    assert shown[:, :24].min() == 0.5 and shown[:, 24:].max() < 0.15
    assert "50%" in axes.get_title()


def test_maps_of_a_row_have_one_scale_and_a_colour_bar():
    rows = [("attention", {"fine": torch.tensor([[1.0, 4.0]]), "coarse": torch.tensor([[2.0]])})]
    figure = maps_figure(IMAGE, rows, torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    fine, coarse, bar = figure.axes
    assert fine.images[1].get_clim() == coarse.images[1].get_clim() == (0, 4)
    assert bar.get_ylabel() == "attention"


def test_ap_stands_over_the_share_and_the_training_is_marked():
    figure = share_ap_figure({0.1: 0.3, 1.0: 0.4}, trained_with=0.3, pictures=7)
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.1, 0.3], [1.0, 0.4]])
    assert axes.lines[1].get_xdata()[0] == pytest.approx(0.3)


def test_corr_and_loss_of_the_scorer_share_a_linear_axis_with_chance():
    (axes,) = scorer_figure([0.6, 0.4], [0.5, 0.7], chance=0.3).axes
    curves = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert curves == {"Corr": [0.5, 0.7], "scorer's loss": [0.6, 0.4], "Corr by chance": [0.3, 0.3]}
    assert axes.get_yscale() == "linear" and axes.get_ylim() == (0, 1)
