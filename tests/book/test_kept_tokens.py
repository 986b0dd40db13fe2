import numpy as np
import torch

from dyhead_book.c12_sparse_detr.kept_tokens import kept_figure

IMAGE = torch.full((3, 32, 48), 0.5)


def test_kept_tokens_let_the_image_through():
    kept = torch.tensor([[True, False]])
    figure = kept_figure(IMAGE, {"rho 0.5": [kept]})
    (axes,) = figure.axes
    shown = np.asarray(axes.images[0].get_array())
    assert shown[:, :24].min() == 0.5 and shown[:, 24:].max() < 0.15
    assert "50%" in axes.get_title()
