"""Chapter 11: the Deformable DETR of its cells, on shipped weights, beside the library's losses, and learning."""

import ast
from dataclasses import replace

import pytest
import torch
from torch import nn

from dyhead_book.c11_deformable_detr.batch_figure import batch_figure
from dyhead_book.c11_deformable_detr.published import published_table
from dyhead_book.figures.learning_curves import losses_figure
from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_lab.detectors.detr import deformable_detr as library
from dyhead_lab.detectors.image_batch import pad_images
from dyhead_lab.zoo import load_trained

from .definitions import build, definitions
from .padded_batch import padded_batch

SHIPPED = "deformable_detr_tiny"
CLASSES = (
    "BoxHead",
    "DeformableDecoder",
    "DeformableDecoderLayer",
    "DeformableDETR",
    "DeformableEncoder",
    "DeformableEncoderLayer",
    "DeformableTransformer",
)
FEWEST_LINES = 150


@pytest.fixture(scope="module")
def cells():
    return definitions("11_deformable_detr")


@pytest.fixture(scope="module")
def built(cells):
    return {name: cells[name] for name in CLASSES}


@pytest.fixture(scope="module")
def batch():
    return padded_batch()


def test_the_shipped_detector_has_the_same_ap_on_the_classes_of_the_chapter(built):
    assert check_same_ap(SHIPPED, **built)


def test_a_decoder_that_forgets_to_refine_is_noticed():
    own = definitions("11_deformable_detr")

    class Wrong(own["DeformableDecoder"]):
        def __init__(self, layers, refine):
            super().__init__(layers, False)

    own["DeformableDecoder"] = Wrong
    verdict = check_same_ap(SHIPPED, 10, DeformableDETR=own["DeformableDETR"])
    assert not verdict and "The weights fit, but" in verdict.message


def test_losses_of_a_padded_batch_and_their_gradients_are_the_librarys(cells, built, batch):
    images, targets = batch
    maps, padding_mask = pad_images(images)
    criterion = cells["SetCriterion"](6, cells["HungarianMatcher"](), library.LOSS_WEIGHTS)
    model = load_trained(SHIPPED).model
    with rebuilt(SHIPPED, **built) as mine:
        ours = criterion(mine.forward_features(mine.backbone(maps), padding_mask), targets)
        criterion.total(ours).backward()
    theirs = model.criterion(model.forward_features(model.backbone(maps), padding_mask), targets)
    sum(model.criterion.weigh(theirs).values()).backward()
    assert len(ours) == 9
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-6)  # float32 sums in another order
    expected = dict(model.named_parameters())
    for name, parameter in mine.named_parameters():
        error = (parameter.grad - expected[name].grad).norm() / expected[name].grad.norm().clamp(min=1e-3)
        assert error < 1e-3, name  # float32: a wrong gradient is off by far more


@pytest.mark.parametrize("refine", [False, True])
def test_four_levels_of_three_maps_with_and_without_refinement(cells, refine):
    """Other published forms than the shipped one: an extra level, and heads that all layers share."""
    torch.manual_seed(0)
    config = replace(load_trained(SHIPPED).model.config, levels=4, refine=refine)
    assert_same(library.DeformableDETR(config), cells["DeformableDETR"](config))


def test_two_stages(cells):
    torch.manual_seed(0)
    config = replace(load_trained(SHIPPED).model.config, two_stage=True)
    assert_same(library.DeformableDETR(config), cells["TwoStageDETR"](config), "enc_outputs")


def assert_same(theirs, ours, *also):
    """Equal outputs on a padded batch with random weights."""
    for parameter in theirs.parameters():  # away from zeros, which would hide mistakes
        nn.init.normal_(parameter, std=0.1)
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(2, c, s, s) for c, s in zip((64, 96, 128), (16, 8, 4), strict=True)]
    padding_mask = torch.zeros(2, 128, 128, dtype=torch.bool)
    padding_mask[1, :, 80:] = True
    with torch.no_grad():
        a, b = (detector.eval().forward_features(maps, padding_mask) for detector in (ours, theirs))
    pairs = [(a, b), *zip(a["aux_outputs"], b["aux_outputs"], strict=True), *((a[key], b[key]) for key in also)]
    for mine, wanted in pairs:
        for key in ("pred_logits", "pred_boxes"):
            torch.testing.assert_close(mine[key], wanted[key], rtol=1e-4, atol=1e-4)  # float32 through five layers


def test_a_few_steps_bring_the_loss_down(cells, batch):
    images, targets = batch
    torch.manual_seed(0)
    model = cells["DeformableDETR"](load_trained(SHIPPED).model.config, load_trained(SHIPPED).model.backbone[0])
    criterion = cells["SetCriterion"](6, cells["HungarianMatcher"](), library.LOSS_WEIGHTS)
    maps, padding_mask = pad_images(images)
    with torch.no_grad():
        features = model.backbone(maps)
    optimiser = torch.optim.AdamW(model.transformer.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = criterion.total(criterion(model.forward_features(features, padding_mask), targets))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]  # 0.77 was seen


def test_an_image_without_objects_teaches_silence(cells):
    criterion = cells["SetCriterion"](6, cells["HungarianMatcher"](), library.LOSS_WEIGHTS)
    outputs = {"pred_logits": torch.zeros(1, 4, 6), "pred_boxes": torch.full((1, 4, 4), 0.5), "aux_outputs": []}
    nothing = {"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
    terms = criterion(outputs, [nothing])
    assert terms["loss_ce"] > 0 and terms["loss_bbox"] == terms["loss_giou"] == 0


def test_the_chapter_builds_a_detector_of_some_size():
    """Lines of the modules and functions that stand in its cells."""
    body = ast.parse((build.BOOK / "c11_deformable_detr" / "chapter.py").read_text(encoding="utf-8")).body
    built = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert sum(node.end_lineno - node.lineno + 1 for node in built) >= FEWEST_LINES


def test_curves_of_losses_are_named_and_not_more_than_colours():
    figure = losses_figure({"classes": [2.0, 1.0], "L1": [0.3, 0.2]})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["classes", "L1"]
    assert axes.get_xlabel() == "step of training"
    with pytest.raises(ValueError, match="at most 4"):
        losses_figure({name: [1.0] for name in "abcde"})


def test_the_published_detectors_have_the_parameters_of_the_official_code():
    """Trainable parameters of the official models, counted there."""
    table = published_table()
    for parameters in ("33,844,193", "39,847,265", "40,627,260", "40,959,129"):
        assert parameters in table
    assert "46.9  29.6  50.1  61.6     173" in table


def test_a_padded_batch_shows_each_image_in_the_size_of_the_largest():
    figure = batch_figure([torch.full((3, 20, 40), 0.5), torch.full((3, 30, 10), 0.5)])
    wide, narrow = figure.axes
    assert wide.get_xlim() == narrow.get_xlim() == (0, 40) and wide.get_ylim() == narrow.get_ylim() == (30, 0)
    assert narrow.images[0].get_extent() == [0, 10, 30, 0]
    assert narrow.lines[0].get_xydata().tolist() == [[5, 15]]
