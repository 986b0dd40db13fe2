"""What chapters say about the shipped detectors is so: measured again by their own cells, on fewer pictures.

Where weights are trained anew and a finding goes, the chapter's text has to go with it. Bounds leave room for the
number of pictures: on all of them the chapters print the numbers.
"""

from itertools import pairwise
from statistics import fmean

import numpy as np
import torch

from dyhead_book.practice.drawn_shapes import DrawnShapes, shapes_ap
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

from .definitions import definitions


def test_gates_need_not_react_to_the_image_and_hardly_differ_from_level_to_level():
    """Chapter 02: means of every level do as well, one constant a kind of branch nearly so, gates of one do not."""
    cells = definitions("02_scale_aware")
    quickstart, data = load_trained("quickstart").model, DrawnShapes(60)
    cells |= {"quickstart": quickstart, "data": data}
    with trace(quickstart, cells["gates_only"]) as seen:
        learned = cells["average_precision"](quickstart)
    calls = seen["backbone.neck.blocks.0.scale", "scale_weights"]
    means = [torch.cat(calls[l::4]).mean(0).tolist() for l in range(4)]
    finer, own, coarser = (
        fmean(level[i] for level in levels)
        for levels, i in ((means[1:], 0), ([means[0][::-1], *means[1:]], 1), (means[:3], -1))
    )
    kinds = [[own, coarser], *2 * [[finer, own, coarser]], [finer, own]]
    ap = [cells["ap_with"](gates) for gates in (means, kinds, [[1.0] * len(level) for level in means])]
    assert abs(ap[0] - learned) < 0.003
    assert ap[0] - ap[2] > 0.01 and abs(ap[0] - ap[1]) < (ap[0] - ap[2]) / 2


def test_few_tokens_cost_much_and_more_than_in_training_bring_nothing():
    """Chapter 12: eight points of AP with 2 % of the tokens, a point or two with a tenth, none above 0.3."""
    model, ap = load_trained("sparse_detr_tiny").model, {}
    for model.rho in (0.02, 0.1, 0.3, 1.0):
        ap[model.rho] = shapes_ap(model, 60)
    assert ap[0.02] < ap[0.3] - 0.05 and ap[0.1] < ap[0.3] - 0.01
    assert abs(ap[1.0] - ap[0.3]) < 0.015


def test_a_ring_lies_in_the_box_as_learned_points_do_but_not_in_the_first_layer():
    """Chapter 14: in the last decoder layer most of what lies inside is a matter of form; in the first it is not."""
    cells = definitions("14_attention_maps")
    asked = list(cells["objects_of"](load_trained("deformable_detr_tiny").model, DrawnShapes(12)))
    layers = [path for path, _ in asked[0][1].find("reference_boxes")]
    pairs = [(s, q, box, other) for (i, s, q, box), (j, _, _, other) in pairwise(asked) if i == j]
    assert len(pairs) >= 5
    first, last = (
        np.mean([cells["compare"](s, path, q, box, other) for s, q, box, other in pairs], 0)
        for path in (layers[0], layers[-1])
    )
    learned, _, ring, other_box = range(4)
    assert last[learned] > 0.95 and last[ring] > 0.8 and last[other_box] < 0.3
    assert first[learned] - first[ring] > 0.3


def test_what_moves_the_ratio_depends_on_the_dose_and_a_mirror_image_moves_it_too():
    """Chapter 15: a tenth of the light moves ratios more than zooming twice, a mirror image more than a third less."""
    cells = definitions("15_learned_scale_ratios")
    cells |= {"zooms": [2], "doses": (1.5, 10)}
    data = DrawnShapes(20)
    pictures = [data.image(i) for i in range(20)]
    zoom, dark, mirror = cells["dose_curves"](load_trained("quickstart").model, pictures, batch=20)
    assert (dark[1, 0] > zoom[0, 0]).all(), "on every level"
    assert (mirror[0] > dark[0, 0]).all(), "on every level"
