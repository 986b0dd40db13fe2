"""Chapter 13: right answers pass in any style, every planted bug is caught by name, the formulas are the engine's."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from dyhead_book.c13_training_on_coco import error_checks, loss_checks, schedule_checks, step_checks
from dyhead_lab import zoo
from dyhead_lab.evaluation.error_analysis import KINDS, find_mistakes
from dyhead_lab.training.optimizers import parameter_groups as library_groups
from dyhead_lab.training.optimizers import warm_average
from dyhead_lab.training.schedules import rate_factor

from .definitions import definitions
from .planted import FEWEST, assert_bugs_are_caught


@pytest.fixture(scope="module")
def book():
    """What the chapter's cells define."""
    return definitions("13_training_on_coco")


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (schedule_checks.check_cosine_factor, "cosine_factor", schedule_checks.MORE_COSINE_MISTAKES),
        (schedule_checks.check_step_factor, "step_factor", schedule_checks.STEP_MISTAKES),
        (loss_checks.check_normalised_losses, "normalised_losses", loss_checks.LOSS_MISTAKES),
        (error_checks.check_kind, "kind", error_checks.KIND_MISTAKES),
    ],
)
def test_planted_bugs(check, solution, bugs, book):
    assert_bugs_are_caught(check, book[solution], bugs)


# The bugs of the next three are written as what comes out; here each becomes a function of the reader's form.


def accumulates_as(**how):
    return step_checks._accumulate_variant(**how)


def test_planted_bugs_of_a_batch_in_parts(book):
    assert step_checks.check_accumulate(book["accumulate"])
    wrong = [
        accumulates_as(share=lambda parts, images: 1.0),
        accumulates_as(share=lambda parts, images: 1 / images),
        accumulates_as(clear=True),
        accumulates_as(last=False),
        accumulates_as(only_first_loss=True),
        accumulates_as(mean_of_losses=False),
    ]
    assert_named(step_checks.check_accumulate, wrong, step_checks.ACCUMULATE_MISTAKES)


def test_planted_bugs_of_the_average(book):
    assert step_checks.check_update_average(book["update_average"])
    keeps = [
        lambda decay, steps: 1 - min(decay, (1 + steps) / (10 + steps)) if steps else 0.0,
        lambda decay, steps: decay if steps else 0.0,
        lambda decay, steps: min(decay, (1 + steps) / (10 + steps)),
    ]
    wrong = [step_checks._average_variant(keep=keep) for keep in keeps]
    wrong += [step_checks._average_variant(buffers=False), step_checks._average_variant(keep=lambda d, steps: 0.0)]
    assert_named(step_checks.check_update_average, wrong, step_checks.AVERAGE_MISTAKES)


def assert_named(check, wrong, bugs):
    assert len(bugs) == len(wrong) >= FEWEST
    for function, bug in zip(wrong, bugs, strict=True):
        verdict = check(function)
        assert not verdict and f"when {bug.name}." in verdict.message and bug.hint in verdict.message, bug.name


def grouped(model, lr, backbone_lr, offset_lr, weight_decay, decay_norms, **how):
    """One group for each parameter, with planted differences."""
    groups = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and not how.get("frozen"):
            continue
        slow = backbone_lr if name.startswith(how.get("body", "backbone.body")) else 1.0
        offset = "sampling_offsets" in name
        rate = lr * how.get("both", lambda a, b: a * b)(slow, offset_lr if offset and how.get("offsets", True) else 1.0)
        if how.get("absolute") and rate != lr:
            rate /= lr
        matrix = parameter.ndim > 1 or how.get("vectors", False)
        decays = (decay_norms and how.get("obeys", True)) or (matrix and (how.get("offsets_decay") or not offset))
        groups.append({"params": [parameter], "lr": rate, "weight_decay": weight_decay if decays else 0.0})
    return groups * how.get("times", 1)


def test_planted_bugs_of_the_groups(book):
    assert step_checks.check_parameter_groups(book["parameter_groups"])
    assert step_checks.check_parameter_groups(grouped), "one group for each parameter is right too"
    wrong = [
        {"body": "nothing"},
        {"body": "backbone"},
        {"offsets": False},
        {"both": min},
        {"vectors": True},
        {"offsets_decay": True},
        {"obeys": False},
        {"absolute": True},
    ]
    functions = [lambda *settings, how=how: grouped(*settings, **how) for how in wrong]
    assert_named(step_checks.check_parameter_groups, functions, step_checks.GROUPS_MISTAKES)
    for how, said in (({"times": 2}, "stands in 2 groups"), ({"frozen": True}, "is frozen and stands in a group")):
        verdict = step_checks.check_parameter_groups(lambda *settings, how=how: grouped(*settings, **how))
        assert not verdict and said in verdict.message


# Right answers in other styles


def cosine_in_tensors(step, warmup, iterations):
    warm = torch.tensor((step + 1) / warmup if warmup else 1.0).double().clamp(max=1.0)
    done = torch.tensor(max(0, step - warmup) / (iterations - warmup)).double()
    return warm * torch.cos(math.pi * done / 2) ** 2  # half of 1 + cos x


def steps_in_a_loop(step, milestones, gamma, warmup, warmup_factor):
    rate = 1.0
    for milestone in milestones:
        if step >= milestone:
            rate *= gamma
    share = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rate * (share + warmup_factor * (1 - share))


def accumulate_in_chunks(model, images, targets, parts):
    totals = {}
    for some, wanted in zip(
        torch.stack(images).chunk(parts), np.array_split(np.arange(len(targets)), parts), strict=True
    ):
        losses = model(list(some), [targets[i] for i in wanted])
        torch.autograd.backward([loss / parts for loss in losses.values()])
        for name, loss in losses.items():
            totals.setdefault(name, []).append(loss.item())
    return {name: sum(values) / parts for name, values in totals.items()}


def average_by_state(average, model, decay, steps):
    d = 0.0 if steps == 0 else min(decay, (1 + steps) / (10 + steps))
    old, new = average.state_dict(), model.state_dict()
    average.load_state_dict({n: d * old[n] + (1 - d) * new[n] if new[n].is_floating_point() else new[n] for n in new})


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (schedule_checks.check_cosine_factor, cosine_in_tensors),
        (schedule_checks.check_step_factor, steps_in_a_loop),
        (step_checks.check_accumulate, accumulate_in_chunks),
        (step_checks.check_update_average, average_by_state),
        (loss_checks.check_normalised_losses, lambda sums, counts: len(counts) * sums / counts.sum()),
    ],
)
def test_right_answers_in_other_styles_pass(check, answer):
    assert check(answer)


def test_an_average_that_changes_the_model_is_told_so():
    def swapped(average, model, decay, steps):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)

    verdict = step_checks.check_update_average(swapped)
    assert not verdict and "changed the model" in verdict.message


# The formulas are the engine's


@pytest.mark.parametrize("name", ["quickstart", "atss_r50_dyhead", "deformable_detr_r50", "detr_r50", "detr_tiny"])
def test_the_schedules_are_those_of_the_engine(name, book):
    recipe = zoo.get(name)
    edges = [0, recipe.warmup, *recipe.milestones, recipe.iterations - 1]
    for step in {max(0, edge + near) for edge, near in itertools.product(edges, (-1, 0, 1))}:
        assert book["factor"](recipe, step) == rate_factor(recipe, step), step


@pytest.mark.parametrize("name", ["quickstart", "deformable_detr_tiny", "sparse_detr_tiny"])
def test_the_groups_are_those_of_the_engine(name, book):
    recipe = zoo.get(name).with_changes({"backbone_lr": 0.3})
    model = recipe.build(5)
    rates = recipe.lr, recipe.backbone_lr, recipe.offset_lr, recipe.weight_decay, recipe.decay_norms

    def by_parameter(groups):
        return {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}

    assert by_parameter(book["parameter_groups"](model, *rates)) == by_parameter(library_groups(model, recipe))


def test_the_average_is_that_of_the_engine(book):
    torch.manual_seed(0)
    old, new = nn.Linear(3, 3), nn.Linear(3, 3)
    ours = nn.Linear(3, 3)
    ours.load_state_dict(old.state_dict())
    with torch.no_grad():
        warm_average(0.9, lambda: 7)([p for p in old.parameters()], [p for p in new.parameters()], 7)
    book["update_average"](ours, new, 0.9, 7)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), old.parameters(), strict=True))


def test_normalised_losses_give_the_loss_of_the_whole_batch(book):
    sums_R, positives_R = np.array([3.0, 10.0, 0.0]), np.array([2.0, 7.0, 0.0])
    assert book["normalised_losses"](sums_R, positives_R).mean() == pytest.approx(sums_R.sum() / positives_R.sum())


def test_clipping_is_pytorchs(book):
    torch.manual_seed(0)
    for most in (0.1, 100.0):
        ours, theirs = nn.Linear(4, 4), nn.Linear(4, 4)
        theirs.load_state_dict(ours.state_dict())
        for layer in (ours, theirs):
            layer(torch.ones(2, 4)).square().sum().backward()
        norms = book["clip"](list(ours.parameters()), most), nn.utils.clip_grad_norm_(theirs.parameters(), most)
        torch.testing.assert_close(*norms)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)


def test_kinds_are_those_of_the_analysis(book):
    from dyhead_lab.data.coco_json import index_coco

    from ..data.coco_files import annotation, coco_dict

    names = list(KINDS)
    order = [names.index(name) for name in ("localisation", "classification", "duplicate", "background", "both")]
    truth = index_coco(coco_dict([annotation(1, [0, 0, 10, 10])]))
    for category, box, own, foreign in [(3, [4, 0, 10, 10], 60 / 140, 0), (7, [2, 0, 10, 10], 0, 80 / 120)]:
        record = {"image_id": 1, "category_id": category, "bbox": box, "score": 0.9}
        found = find_mistakes(truth, [record])[0][0].kind
        assert names.index(found) == order[book["kind"](own, foreign)]


def test_hours():
    assert error_checks.training_hours(12, 100) == pytest.approx(12 * 118_287 / 100 / 3600)
