"""Chapter 13: its solutions agree with the library, and every planted bug is caught by name."""

import numpy as np
import pytest

from dyhead_book.c13_training_on_coco import training_checks as lesson
from dyhead_lab import zoo
from dyhead_lab.data.draws import EndlessBatches
from dyhead_lab.evaluation.error_analysis import KINDS, find_mistakes
from dyhead_lab.training.schedules import rate_factor

from .planted import assert_bugs_are_caught


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (lesson.check_learning_rate, lesson.learning_rate, lesson.LEARNING_RATE_MISTAKES),
        (lesson.check_process_share, lesson.process_share, lesson.SHARE_MISTAKES),
        (lesson.check_normalised_losses, lesson.normalised_losses, lesson.LOSS_MISTAKES),
        (lesson.check_kind, lesson.kind_of_false_positive, lesson.KIND_MISTAKES),
    ],
    ids=["learning rate", "share of a process", "normalised losses", "kinds of mistakes"],
)
def test_planted_bugs(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_the_learning_rate_is_that_of_the_engine():
    recipe = zoo.get("quickstart")
    for step in (0, 1, recipe.warmup - 1, recipe.warmup, recipe.warmup + 1, recipe.iterations - 1):
        expected = recipe.lr * rate_factor(recipe, step)
        assert lesson.learning_rate(step, recipe.lr, recipe.warmup, recipe.iterations) == pytest.approx(expected)


def test_the_shares_are_those_of_the_sampler():
    for rank in range(2):
        sampler = iter(EndlessBatches(length=1000, batch_size=6, seed=0, start=5, rank=rank, world=2))
        places = [seed for _, seed in next(sampler)]  # with seed 0 a draw's seed is its place
        assert places == lesson.process_share(5, 6, rank, 2).tolist()


def test_normalised_losses_give_the_loss_of_the_whole_batch():
    sums_R, positives_R = np.array([3.0, 10.0, 0.0]), np.array([2.0, 7.0, 0.0])
    assert lesson.normalised_losses(sums_R, positives_R).mean() == pytest.approx(sums_R.sum() / positives_R.sum())


def test_kinds_are_those_of_the_analysis():
    from dyhead_lab.data.coco_json import index_coco

    from ..data.coco_files import annotation, coco_dict

    names = list(KINDS)
    order = [names.index(name) for name in ("localisation", "classification", "duplicate", "background", "both")]
    truth = index_coco(coco_dict([annotation(1, [0, 0, 10, 10])]))
    for category, box, own, foreign in [(3, [4, 0, 10, 10], 60 / 140, 0), (7, [2, 0, 10, 10], 0, 80 / 120)]:
        record = {"image_id": 1, "category_id": category, "bbox": box, "score": 0.9}
        found = find_mistakes(truth, [record])[0][0].kind
        assert names.index(found) == order[lesson.kind_of_false_positive(own, foreign)]


def test_hours():
    assert lesson.training_hours(12, 100) == pytest.approx(12 * 118_287 / 100 / 3600)
