"""Hungarian matching against every assignment there is, and at the edges."""

import itertools

import pytest
import torch

from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, Predictions, pad_targets


def predictions(queries, batch=2, classes=4, seed=0):
    torch.manual_seed(seed)
    boxes = torch.rand(batch, queries, 4) * 0.5 + 0.1
    return Predictions(torch.randn(batch, queries, classes), boxes)


def objects(*counts, classes=4, seed=1):
    torch.manual_seed(seed)
    return pad_targets(
        [{"labels": torch.randint(classes, (n,)), "boxes": torch.rand(n, 4) * 0.5 + 0.1} for n in counts]
    )


@pytest.mark.parametrize("focal", [True, False])
def test_no_other_assignment_is_cheaper(focal):
    matcher = HungarianMatcher(focal=focal)
    made, wanted = predictions(5), objects(3, 2)
    (pairs,) = matcher([made], [wanted])
    cost = matcher.cost(made, wanted)
    for image, count in enumerate(wanted.counts):
        mine = pairs.image == image
        ours = cost[image, pairs.query[mine], pairs.object[mine]].sum()
        best = min(
            sum(cost[image, query, index] for index, query in enumerate(choice))
            for choice in itertools.permutations(range(5), count)
        )
        torch.testing.assert_close(ours, best, atol=1e-5, rtol=0)


def test_every_set_is_matched_as_if_it_were_alone():
    matcher, wanted = HungarianMatcher(), objects(3, 1)
    sets = [predictions(5, seed=2), predictions(9, seed=3)]
    together = matcher(sets, [wanted, wanted])
    for made, found in zip(sets, together, strict=True):
        (alone,) = matcher([made], [wanted])
        assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))


def test_prices_are_copied_to_the_host_once(monkeypatch):
    copies = []
    to_host = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: copies.append(self.shape) or to_host(self))
    HungarianMatcher()([predictions(5), predictions(7), predictions(11)], [objects(3, 1)] * 3)
    assert copies == [(2, 5 + 7 + 11, 3)]


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (6, 2)], ids=["no objects", "one object", "more than queries"])
def test_matches_as_many_pairs_as_there_can_be(counts):
    (pairs,) = HungarianMatcher()([predictions(4)], [objects(*counts)])
    for image, count in enumerate(counts):
        mine = pairs.image == image
        assert mine.sum() == min(4, count)
        assert len(set(pairs.query[mine].tolist())) == len(set(pairs.object[mine].tolist())) == min(4, count)
        assert (pairs.object[mine] < count).all()


def test_filling_is_never_matched():
    made = predictions(6)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[0, :3] = True
    (pairs,) = HungarianMatcher()([made._replace(padding_BQ=padding)], [objects(3, 3)])
    assert sorted(pairs.query[pairs.image == 0].tolist()) == [3, 4, 5]


def test_boxes_without_area_are_matched_unless_nothing_can_be_said():
    made = predictions(3, batch=1)
    made.boxes_BQ[0, 0, 2:] = 0.0  # meets the filling of an image with fewer objects, too
    two = Predictions(made.logits_BQ.repeat(2, 1, 1), made.boxes_BQ.repeat(2, 1, 1))
    (pairs,) = HungarianMatcher()([two], [objects(2, 1)])
    assert len(pairs.image) == 3


@pytest.mark.parametrize("part", [0, 1], ids=["class", "box"])
def test_predictions_that_are_not_a_number_are_matched_so_that_the_losses_tell(part):
    made = predictions(4)
    made[part][1, 2] = float("nan")
    (pairs,) = HungarianMatcher()([made], [objects(1, 1)])
    assert pairs.query[pairs.image == 1].tolist() == [2]
    (alone,) = HungarianMatcher()([predictions(4)], [objects(1, 1)])
    assert torch.equal(pairs.query[pairs.image == 0], alone.query[alone.image == 0])  # its neighbour is matched as ever
    made[part][:] = float("nan")
    (pairs,) = HungarianMatcher()([made], [objects(3, 6)])
    assert len(pairs.image) == 3 + 4
