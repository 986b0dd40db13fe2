"""Testing with flips: boxes come back to where they belong, and agreement of the views decides the score."""

import pytest
import torch
from torch import nn

from dyhead_lab.evaluation.flips import FlipTested, flip_boxes, merge


class BrightSpot(nn.Module):
    """Finds the box around the bright pixels, with score 0.8."""

    def forward(self, images):
        found = []
        for image in images:
            rows, columns = image[0].nonzero(as_tuple=True)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found.append(
                {
                    "boxes": torch.tensor([box], dtype=torch.float32),
                    "scores": torch.tensor([0.8]),
                    "labels": torch.tensor([2]),
                }
            )
        return found


def test_what_all_views_agree_on_comes_back_unchanged():
    image = torch.zeros(3, 20, 30)
    image[:, 4:9, 11:25] = 1
    (found,) = FlipTested(BrightSpot())([image])
    torch.testing.assert_close(found["boxes"], torch.tensor([[11.0, 4, 25, 9]]))
    torch.testing.assert_close(found["scores"], torch.tensor([0.8]))
    assert found["labels"].tolist() == [2]


def test_flipping_boxes_twice_changes_nothing():
    boxes = torch.tensor([[1.0, 2, 5, 9]])
    for axes in ((), (2,), (1,), (1, 2)):
        assert torch.equal(flip_boxes(flip_boxes(boxes, axes, (20, 30)), axes, (20, 30)), boxes)
    assert flip_boxes(boxes, (2,), (20, 30)).tolist() == [[25, 2, 29, 9]]
    assert flip_boxes(boxes, (1,), (20, 30)).tolist() == [[1, 11, 5, 18]]


def test_boxes_are_averaged_by_score_and_scores_over_all_views():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 50, 60, 60]])
    found = merge(boxes, torch.tensor([0.6, 0.2, 0.4]), torch.tensor([1, 1, 1]), views=4)
    torch.testing.assert_close(found["boxes"], torch.tensor([[0.25, 0, 10.25, 10], [50, 50, 60, 60]]))
    torch.testing.assert_close(found["scores"], torch.tensor([0.2, 0.1]))


def test_classes_are_kept_apart_and_nothing_stays_nothing():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10]])
    found = merge(boxes, torch.tensor([0.4, 0.8]), torch.tensor([0, 1]), views=2)
    assert found["labels"].tolist() == [1, 0]
    torch.testing.assert_close(found["scores"], torch.tensor([0.4, 0.2]))
    assert len(merge(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), 4)["boxes"]) == 0


@pytest.mark.parametrize(
    ("box", "score"), [([float("nan")] * 4, 0.9), ([0, 0, float("inf"), 10], 0.9), (None, float("nan"))]
)
def test_what_is_not_finite_spoils_nothing_and_is_passed_on(box, score):
    sound = [0.0, 0, 10, 10]
    boxes = torch.tensor([sound, box or sound])
    found = merge(boxes, torch.tensor([0.8, score]), torch.tensor([0, 0]), views=2)
    torch.testing.assert_close(found["boxes"], boxes, equal_nan=True)
    torch.testing.assert_close(found["scores"], torch.tensor([0.4, score]), equal_nan=True)
    assert found["labels"].tolist() == [0, 0]
