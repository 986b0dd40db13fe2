from itertools import permutations

import pytest
import torch

from dyhead_book.c11_deformable_detr.refinement_checks import (
    ASSIGN_MISTAKES,
    COST_MISTAKES,
    REFINE_MISTAKES,
    assign,
    check_assign,
    check_cost,
    check_refine,
    draw_detections,
    matching_cost,
)
from dyhead_book.c11_deformable_detr.set_loss_checks import SET_LOSS_MISTAKES, check_set_loss, set_loss
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, Predictions, pad_targets
from dyhead_lab.detectors.detr.prediction_heads import refine_boxes
from dyhead_lab.detectors.detr.set_criterion import SetCriterion

from .planted import assert_bugs_are_caught

SUITES = [
    (check_refine, refine_boxes, REFINE_MISTAKES),
    (check_cost, matching_cost, COST_MISTAKES),
    (check_assign, assign, ASSIGN_MISTAKES),
    (check_set_loss, set_loss, SET_LOSS_MISTAKES),
]


@pytest.mark.parametrize(("check", "solution", "bugs"), SUITES, ids=[suite[0].__name__ for suite in SUITES])
def test_the_solution_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_the_assignment_is_the_cheapest_of_all():
    cost = torch.rand(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = torch.arange(3)
    totals = [cost[torch.tensor(queries), columns].sum() for queries in permutations(range(5), 3)]
    assert cost[assign(cost), columns].sum() == min(totals)


def test_the_loss_is_the_criterions():
    """The solution of the exercise and the criterion that trains the detectors give the same three numbers."""
    _, (logits, boxes, labels, objects) = next(iter(draw_detections(3, 1, (3, 4))))
    target = {"labels": labels, "boxes": objects}
    pairs = HungarianMatcher()([Predictions(logits[None], boxes[None])], [pad_targets([target])])[0]
    query = assign(matching_cost(logits, boxes, labels, objects))
    assert query.tolist() == pairs.query[pairs.object.argsort()].tolist()
    criterion = SetCriterion(logits.shape[1], HungarianMatcher(), {})
    losses = criterion({"pred_logits": logits[None], "pred_boxes": boxes[None]}, [target])
    expected = [losses[name] for name in ("loss_ce", "loss_bbox", "loss_giou")]
    for ours, theirs in zip(set_loss(logits, boxes, labels, objects, query), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)  # the criterion counts objects in float32
