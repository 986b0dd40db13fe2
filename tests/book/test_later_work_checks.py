"""Checks of the chapter on later work: the answers of its cells pass, each mistake is named."""

import pytest
import torch

from dyhead_book.c22_later_work.denoising_checks import MASK_MISTAKES, SHAKEN_MISTAKES, check_mask, check_shaken
from dyhead_book.c22_later_work.look_forward_checks import TWICE_MISTAKES, check_twice, gradients
from dyhead_book.practice.drills import drill

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("22_later_work")


@pytest.mark.parametrize(
    ("check", "name", "bugs"),
    [
        (check_mask, "who_is_hidden", MASK_MISTAKES),
        (check_shaken, "shaken_boxes", SHAKEN_MISTAKES),
        (check_twice, "look_forward_twice", TWICE_MISTAKES),
    ],
)
def test_the_chapters_answer_passes_and_each_bug_is_caught(check, name, bugs):
    assert_bugs_are_caught(check, CELLS[name], bugs)


def test_a_layer_learns_from_its_own_prediction_and_the_next():
    rule = CELLS["look_forward_twice"]
    reached = [
        (g != 0).flatten(1).all(1).tolist() for g in gradients(rule, [torch.zeros(1, 4)] * 3, torch.full((1, 4), 0.3))
    ]
    assert reached == [[True, False, False], [True, True, False], [False, True, True]]


def test_a_rule_that_gives_no_list_or_no_gradient_gets_a_verdict():
    assert not check_twice(lambda changes, boxes: boxes)
    verdict = check_twice(lambda changes, boxes: [x.detach() for x in CELLS["look_forward_twice"](changes, boxes)])
    assert not verdict


def test_a_mask_of_numbers_is_right_and_a_planted_bug_is_not():
    assert check_mask(lambda *sizes: CELLS["who_is_hidden"](*sizes).numpy())
    assert not check_mask(drill(MASK_MISTAKES, 2))
