"""How often the host waits for a GPU while the losses are made: on the CPU by what reads a device, on a pretended
GPU by what crosses between host and device."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, Matches
from dyhead_lab.detectors.detr.set_criterion import SetCriterion
from dyhead_lab.detectors.detr.token_selection import keep_best
from dyhead_lab.detectors.image_batch import normalise_targets, pad_images, to_pixels
from dyhead_lab.detectors.inputs import check_images, check_targets
from dyhead_lab.detectors.losses import BACKGROUND, IGNORED, Positives, classification_loss, find_positives, ones_at
from dyhead_lab.detectors.one_stage.point_matchers import match_by_iou, match_nearest

READS = (torch.ops.aten.nonzero.default, torch.ops.aten._local_scalar_dense.default)
FILLS = (torch.ops.aten.fill_.Tensor,)  # takes its number from the host as an argument of the kernel


class Waits(TorchDispatchMode):
    """Inside the ``with`` block collects the operators for which the host would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, result)) if isinstance(x, torch.Tensor)]
        by_mask = operator.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
        masks = [x for x in tree_leaves(args[1]) if x is not None and x.dtype == torch.bool] if by_mask else []
        crosses = len({x.device.type for x in tensors}) > 1 and operator not in FILLS
        if operator in READS or masks or crosses:
            self.found.append(str(operator))
        return result


def test_the_counter_sees_masks_numbers_and_copies():
    x, mask = torch.rand(4), torch.tensor([True, False, True, True])
    with Waits() as waits:
        x[mask]
        mask.nonzero()
        x.sum().item()
        x[torch.tensor([1, 2])] + x[:2]
    assert len(waits.found) == 3
    with FakeTensorMode(), Waits() as waits:
        torch.tensor([1.0, 2.0], device="cuda")
        torch.zeros(3, device="cuda")[-1] = 1
        torch.zeros(3, device="cuda")[1:] = 1  # a fill
    assert len(waits.found) == 2


@pytest.mark.parametrize("images", [1, 6])
def test_the_loss_of_a_batch_waits_once_however_many_images(images):
    generator = torch.Generator().manual_seed(0)
    targets = [{"boxes": torch.rand(3, 4), "labels": torch.tensor([0, 2, 1])}] * images
    matched = torch.randint(IGNORED, 3, (images, 50), generator=generator)
    logits = torch.randn(images, 50, 4, generator=generator, requires_grad=True)
    with Waits() as waits:
        classification_loss(logits, matched, find_positives(matched, targets)).backward()
    assert waits.found == ["aten.nonzero.default"]


@pytest.mark.parametrize("images", [1, 6])
def test_the_check_of_targets_waits_once_however_many_images(images):
    target = {"boxes": torch.rand(3, 4) + torch.tensor([0.0, 0, 1, 1]), "labels": torch.tensor([0, 2, 1])}
    given = [torch.rand(3, 8, 8)] * images
    with Waits() as waits:
        check_images(given)
        check_targets([target] * images, given, classes=3)
    with Waits() as in_transformers:
        normalise_targets([target] * images, given, classes=3)
    assert waits.found == in_transformers.found == ["aten._local_scalar_dense.default"]


def test_the_matchers_of_reppoints_wait_for_nothing():
    boxes = torch.tensor([[0.0, 0, 9, 9], [1, 1, 8, 8], [30, 30, 32, 40]])
    points = [torch.rand(20, 2) * 40, torch.rand(5, 2) * 40]
    with Waits() as waits:
        match_nearest(points, (8, 16), boxes)
        match_by_iou(torch.rand(25, 4).cumsum(1) * 20, boxes)
    assert waits.found == []


def test_a_known_number_of_tokens_is_not_read_again():
    scores, padding, budget = torch.rand(2, 9), torch.zeros(2, 9, dtype=torch.bool), torch.tensor([4, 2])
    with Waits() as waits:
        known = keep_best(scores, padding, budget, T=4)
    assert waits.found == []
    read = keep_best(scores, padding, budget)
    assert torch.equal(known.index_BT, read.index_BT) and torch.equal(known.padding_BT, read.padding_BT)


def test_losses_copy_nothing_to_a_gpu():
    with FakeTensorMode():
        logits = torch.zeros(2, 50, 4, device="cuda")
        index = torch.zeros(7, dtype=torch.long, device="cuda")
        boxes, matched = torch.zeros(7, 4, device="cuda"), torch.full((2, 50), BACKGROUND, device="cuda")
        with Waits() as waits:
            positives = Positives(index, index, boxes, index, boxes.new_full((), 7))
            classification_loss(logits, matched, positives)
    assert waits.found == []


class Matched(HungarianMatcher):
    """Instead of asking the host, pairs the first query of each image with its first object."""

    def __call__(self, sets, targets):
        first = torch.zeros(2, dtype=torch.long, device="cuda")
        return [Matches(torch.arange(2, device="cuda"), first, first) for _ in sets]


@pytest.mark.parametrize("focal", [True, False])
def test_the_set_criterion_sends_the_counts_once_however_many_sets_there_are(focal, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)  # which a pretended GPU cannot do
    with FakeTensorMode():
        made = [
            {
                "pred_logits": torch.zeros(2, 5, 3 if focal else 4, device="cuda"),
                "pred_boxes": torch.zeros(2, 5, 4, device="cuda"),
            }
            for _ in range(3)
        ]
        objects = [
            {"labels": torch.zeros(n, dtype=torch.long, device="cuda"), "boxes": torch.zeros(n, 4, device="cuda")}
            for n in (1, 3)
        ]
        with Waits() as waits:
            SetCriterion(3, Matched(focal=focal), {})({**made[0], "aux_outputs": made[1:]}, objects)
    assert waits.found == ["aten._to_copy.default"]  # from pinned memory: it does not make the host wait


def test_images_and_boxes_on_a_gpu_stay_there():
    with FakeTensorMode(), Waits() as waits:
        pad_images([torch.zeros(3, 6, 8, device="cuda"), torch.zeros(3, 7, 5, device="cuda")])
        to_pixels(torch.zeros(2, 4, device="cuda"), 6, 8)
    assert waits.found == []


def test_ones_stand_where_the_index_says():
    marked = ones_at(torch.rand(2, 3), torch.tensor([0, 1, 1]), torch.tensor([2, 0, 0]))
    assert marked.tolist() == [[0, 0, 1], [1, 0, 0]]
