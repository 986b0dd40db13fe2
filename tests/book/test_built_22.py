"""What the cells of the page on later work define: queries that are boxes, noised truths, and who may read them."""

import pytest
import torch

from dyhead_lab.detectors.detr.deformable_detr import DeformableDETRConfig

from .definitions import definitions

QUERIES, GROUPS, CLASSES = 7, 3, 4
CONFIG = DeformableDETRConfig(
    classes=CLASSES, feature_channels=(8, 8), levels=2, channels=32, heads=4, feedforward=32, dropout=0.0,
    encoder_layers=1, decoder_layers=2, queries=QUERIES, refine=True,
)  # fmt: skip
GOALS = [
    {"labels": torch.tensor([0, 3]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.2], [0.7, 0.5, 0.4, 0.3]])},
    {"labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 0.9, 0.1]])},
]


@pytest.fixture(scope="module")
def cells():
    return definitions("22_later_work")


@pytest.fixture(scope="module")
def detector(cells):
    """Of random weights, also where a detector starts with zeros, which would hide what leaks."""
    torch.manual_seed(0)
    model = cells["BoxQueryDETR"](CONFIG)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def maps():
    torch.manual_seed(1)
    return [torch.randn(2, 8, 6, 6), torch.randn(2, 8, 3, 3)], torch.zeros(2, 48, 48, dtype=torch.bool)


def noised(cells, **options):
    torch.manual_seed(2)
    return cells["noised_queries"](GOALS, GROUPS, CLASSES, QUERIES, **options)


def predictions(outputs):
    return [outputs, *outputs["aux_outputs"]]


def test_a_group_reads_itself_and_ordinary_queries_which_read_only_each_other(cells):
    hidden = cells["who_is_hidden"](2, 2, 3)
    for row in range(7):
        for column in range(7):
            groups = [n // 2 if n < 4 else "ordinary" for n in (row, column)]
            assert bool(hidden[row, column]) == (groups[1] != "ordinary" and groups[0] != groups[1])


def test_ordinary_queries_do_not_learn_the_truth_from_noised_ones(cells, detector, maps):
    (told, shaken, hidden), _ = noised(cells)
    with torch.no_grad():
        alone = detector.forward_features(*maps)
        beside = detector.forward_features(*maps, (told, shaken, hidden))
        open_to_all = detector.forward_features(*maps, (told, shaken, torch.zeros_like(hidden)))
    for name in ("pred_logits", "pred_boxes"):
        for a, b, c in zip(*map(predictions, (alone, beside, open_to_all)), strict=True):
            assert a[name].shape[1] == QUERIES
            torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=0)  # float32 sums in another order
            assert (a[name] - c[name]).abs().max() > 1e-3


def test_a_query_starts_at_its_box_and_a_later_layer_at_the_refined_one(cells, detector, maps):
    with torch.no_grad():
        before = predictions(detector.forward_features(*maps))
        detector.anchors += 0.5
        after = predictions(detector.forward_features(*maps))
        detector.anchors -= 0.5
    assert all((a["pred_boxes"] - b["pred_boxes"]).abs().max() > 1e-3 for a, b in zip(before, after, strict=True))


def test_noise_stays_within_its_bounds_and_without_it_the_truth_is_handed_in(cells):
    (told, shaken, _), (labels, boxes, real) = noised(cells, box_noise=0.0, label_noise=0.0)
    assert torch.equal(told, labels) and torch.allclose(shaken, boxes)
    assert real.sum() == GROUPS * 3 and labels[0, :2].tolist() == [0, 3]
    (told, shaken, _), (labels, boxes, real) = noised(cells, box_noise=0.4, label_noise=1.0)
    centre, size = boxes[real].chunk(2, -1)
    moved, stretched = shaken[real].chunk(2, -1)
    assert ((moved - centre).abs() <= 0.2 * size + 1e-6).all() and (moved != centre).any()
    assert ((stretched / size - 1).abs() <= 0.4 + 1e-6).all() and (stretched != size).any()
    assert (told != labels).any() and told.max() < CLASSES


def test_the_loss_of_what_is_restored_is_nearly_zero_and_filling_does_not_count(cells):
    _, truth = noised(cells)
    labels, boxes, real = truth
    perfect = 40 * torch.nn.functional.one_hot(labels, CLASSES).float() - 20
    found = {"pred_logits": perfect, "pred_boxes": boxes.clone()}
    assert cells["denoising_loss"]([found], truth) < 1e-5
    found["pred_boxes"][~real] += 0.3
    assert cells["denoising_loss"]([found], truth) < 1e-5
    found["pred_boxes"][real] += 0.3
    assert cells["denoising_loss"]([found, found], truth) > 1
