"""Chapter 11's checks: right answers pass in any style, each mistake is named. The answers are those of its cells."""

from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from dyhead_book.c11_deformable_detr.decoder_checks import (
    DECODER_MISTAKES,
    LAYER_MISTAKES,
    check_decoder,
    check_decoder_layer,
    filled,
)
from dyhead_book.c11_deformable_detr.matching_checks import (
    ASSIGN_MISTAKES,
    COST_MISTAKES,
    check_assign,
    check_cost,
    draw_detections,
)
from dyhead_book.c11_deformable_detr.reference_checks import (
    LEVELS_MISTAKES,
    REFINE_MISTAKES,
    check_on_levels,
    check_refine,
)
from dyhead_book.c11_deformable_detr.set_loss_checks import SET_LOSS_MISTAKES, check_set_loss
from dyhead_lab.detectors.detr.deformable_transformer import DecoderOutput, DeformableDecoder
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, Predictions, pad_targets
from dyhead_lab.detectors.detr.prediction_heads import refine_boxes
from dyhead_lab.detectors.detr.set_criterion import SetCriterion

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("11_deformable_detr")

FUNCTIONS = [
    (check_on_levels, "on_levels", LEVELS_MISTAKES),
    (check_refine, "refine_boxes", REFINE_MISTAKES),
    (check_cost, "matching_cost", COST_MISTAKES),
    (check_assign, "assign", ASSIGN_MISTAKES),
    (check_set_loss, "set_loss", SET_LOSS_MISTAKES),
]


@pytest.mark.parametrize(("check", "name", "bugs"), FUNCTIONS, ids=[name for _, name, _ in FUNCTIONS])
def test_the_chapters_answer_passes_and_each_bug_is_caught(check, name, bugs):
    assert_bugs_are_caught(check, CELLS[name], bugs)


class Layer(nn.Module):
    """A decoder layer of the chapter's parts whose forward pass is that of a mistake."""

    mistake = None

    def __new__(cls, *arguments):
        layer = CELLS["DeformableDecoderLayer"](*arguments)
        layer.forward = lambda *a: (cls.mistake.imitate(layer, *a), None, None)
        return layer


def decoder_with(mistake):
    """A decoder class that gives what a mistake gives: its predictions, with the gradient that the check looks for."""

    class Decoder(nn.Module):
        def __init__(self, layers, refine):
            super().__init__()
            self.decoder = DeformableDecoder(layers, refine)

        def forward(self, queries, memory, pyramid, class_heads, box_heads):
            seen = mistake.imitate(self.decoder, queries, memory, pyramid, class_heads, box_heads)
            *predictions, gradient = seen
            half = len(predictions) // 2
            logits, boxes = predictions[:half], [b.detach() for b in predictions[half:]]
            weight = box_heads[0].layers[2].weight
            boxes[-1] = boxes[-1] + (gradient.detach() * (weight - weight.detach())).sum() / boxes[-1].numel()
            return DecoderOutput(logits, boxes, [], [])

    return Decoder


@pytest.mark.parametrize("mistake", LAYER_MISTAKES, ids=lambda mistake: mistake.name)
def test_a_decoder_layer_with_a_mistake_is_told_which(mistake):
    verdict = check_decoder_layer(type("Wrong", (Layer,), {"mistake": mistake}))
    assert not verdict and f"when {mistake.name}." in verdict.message


@pytest.mark.parametrize("mistake", DECODER_MISTAKES, ids=lambda mistake: mistake.name)
def test_a_decoder_with_a_mistake_is_told_which(mistake):
    verdict = check_decoder(decoder_with(mistake))
    assert not verdict and f"when {mistake.name}." in verdict.message


def test_the_modules_of_the_chapter_pass():
    assert check_decoder_layer(CELLS["DeformableDecoderLayer"])
    assert check_decoder(CELLS["DeformableDecoder"])


def test_a_layer_with_other_parameters_is_told_their_names():
    class Other(CELLS["DeformableDecoderLayer"]):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.norm4 = self.norm3
            del self.norm3

    with pytest.raises(ValueError, match=r"Missing: norm3\.weight \(8,\).*norm4\.weight"):
        filled(Other, CELLS["DeformableDecoderLayer"](8, 12, 0.0, 2, 2, 2), 8, 12, 0.0, 2, 2, 2)


def test_right_answers_in_another_style_pass():
    def levels_in_a_loop(reference_BQ, valid_cells_BL2, spatial_shapes_L2):
        out = []
        for level, (H, W) in enumerate(spatial_shapes_L2.tolist()):
            ratio = valid_cells_BL2[:, level] / torch.tensor([W, H])
            out.append(reference_BQ * ratio.repeat(1, reference_BQ.shape[-1] // 2)[:, None])
        return torch.stack(out, 2)

    def objects_as_rows(cost_QG):
        return linear_sum_assignment(cost_QG.T.numpy())[1]

    def all_ways(cost_QG):
        ways = permutations(range(cost_QG.shape[0]), cost_QG.shape[1])
        return list(min(ways, key=lambda way: sum(cost_QG[q, g] for g, q in enumerate(way))))

    def torchs_logit(correction, reference):
        if reference.shape[-1] == 2:
            reference = torch.cat([reference, torch.full_like(reference, 0.5)], -1)
        return torch.sigmoid(correction + torch.logit(reference, eps=1e-5))

    assert check_on_levels(levels_in_a_loop)
    assert check_assign(objects_as_rows) and check_assign(all_ways)
    assert check_refine(torchs_logit) and check_refine(refine_boxes)


def test_the_assignment_is_the_cheapest_of_all():
    cost = torch.rand(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = torch.arange(3)
    totals = [cost[torch.tensor(queries), columns].sum() for queries in permutations(range(5), 3)]
    assert cost[CELLS["assign"](cost), columns].sum() == min(totals)


def test_the_loss_is_the_criterions():
    """The loss of the chapter and the criterion that trains the detectors give the same three numbers."""
    _, (logits, boxes, labels, objects) = next(iter(draw_detections(3, 1, (3, 4))))
    target = {"labels": labels, "boxes": objects}
    pairs = HungarianMatcher()([Predictions(logits[None], boxes[None])], [pad_targets([target])])[0]
    query = CELLS["assign"](CELLS["matching_cost"](logits, boxes, labels, objects))
    assert query.tolist() == pairs.query[pairs.object.argsort()].tolist()
    criterion = SetCriterion(logits.shape[1], HungarianMatcher(), {})
    losses = criterion({"pred_logits": logits[None], "pred_boxes": boxes[None]}, [target])
    expected = [losses[name] for name in ("loss_ce", "loss_bbox", "loss_giou")]
    for ours, theirs in zip(
        CELLS["set_loss"](logits, boxes, labels, objects, query, len(labels)), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)  # the criterion counts objects in float32
