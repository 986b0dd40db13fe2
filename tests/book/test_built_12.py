"""Chapter 12: the Sparse DETR of its cells, on shipped weights, beside the library's losses, and learning."""

import ast
from dataclasses import replace

import pytest
import torch

from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_lab.detectors.detr import sparse_detr as library
from dyhead_lab.detectors.detr.dam import decoder_attention_map
from dyhead_lab.detectors.detr.token_selection import KeptTokens
from dyhead_lab.detectors.image_batch import pad_images
from dyhead_lab.zoo import load_trained

from .definitions import build, definitions
from .padded_batch import padded_batch

SHIPPED = "sparse_detr_tiny"
FEWEST_LINES = 80
REPORTS = ("corr", "class_error", "cardinality_error")  # terms that nothing is trained on


@pytest.fixture(scope="module")
def cells():
    return definitions("12_sparse_detr")


@pytest.fixture(scope="module")
def batch():
    return padded_batch()


def test_the_shipped_detector_has_the_same_ap_on_the_classes_of_the_chapter(cells):
    assert check_same_ap(SHIPPED, SparseDETR=cells["SparseDETR"])


@pytest.mark.parametrize("name", ["DAMPredictor", "DeformableEncoder"])
def test_each_part_alone_fits_into_the_librarys_detector(cells, name):
    assert check_same_ap(SHIPPED, 10, **{name: cells[name]})


def test_a_detector_that_keeps_the_worst_tokens_is_noticed():
    own = definitions("12_sparse_detr")
    best = own["keep_best"]
    own["keep_best"] = lambda scores, padding, budget: best(-scores, padding, budget)
    verdict = check_same_ap(SHIPPED, 10, SparseDETR=own["SparseDETR"])
    assert not verdict and "The weights fit, but" in verdict.message


@pytest.mark.parametrize("rho", [0.05, 0.3, 1.0])
def test_losses_of_a_padded_batch_and_their_gradients_are_the_librarys(cells, batch, rho):
    images, targets = batch
    padded, padding_mask = pad_images(images)
    model = load_trained(SHIPPED).model
    with rebuilt(SHIPPED, SparseDETR=cells["SparseDETR"]) as mine:
        maps = [x.detach() for x in mine.backbone(padded).values()]
    found = []
    for detector in (mine, model):
        outputs = detector.forward_features(maps, padding_mask, rho=rho)
        terms = detector.criterion(outputs, targets)
        sum(detector.criterion.weigh(terms).values()).backward()
        found.append({name: value for name, value in terms.items() if not name.startswith(REPORTS)})
    ours, theirs = found
    assert ours.keys() == theirs.keys() and "loss_mask_prediction" in ours and "loss_ce_enc_0" in ours
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-6)  # float32 sums in another order
    expected = dict(model.named_parameters())
    for name, parameter in mine.named_parameters():
        if not name.startswith("backbone"):
            error = (parameter.grad - expected[name].grad).norm() / expected[name].grad.norm().clamp(min=1e-3)
            assert error < 1e-3, name  # float32: a wrong gradient is off by far more


def test_objectness_is_the_librarys(cells, batch):
    torch.manual_seed(0)
    config = replace(load_trained(SHIPPED).model.config, selection="objectness")
    theirs, ours = library.SparseDETR(config), cells["SparseDETR"](config)
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(2, c, s, s) for c, s in zip((64, 96, 128), (16, 8, 4), strict=True)]
    padding_mask = torch.zeros(2, 128, 128, dtype=torch.bool)
    padding_mask[1, :, 80:] = True
    with torch.no_grad():
        a, b = (detector.eval().forward_features(maps, padding_mask) for detector in (ours, theirs))
    for key in ("pred_logits", "pred_boxes", "token_scores", "dam"):
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-4)  # float32 through five layers
    torch.testing.assert_close(a["backbone_outputs"], b["backbone_outputs"], rtol=1e-4, atol=1e-4)


def test_the_map_of_a_batch_is_the_librarys(cells):
    torch.manual_seed(0)
    locations, weights = 1.2 * torch.rand(2, 5, 2, 2, 3, 2) - 0.1, torch.rand(2, 5, 2, 2, 3)
    arguments = locations, weights, torch.tensor([[4, 6], [2, 3]]), torch.tensor([0, 24]), 30
    torch.testing.assert_close(cells["decoder_attention_map"](*arguments), decoder_attention_map(*arguments))


def test_kept_tokens_go_out_and_come_back_as_the_librarys(cells):
    torch.manual_seed(0)
    index = torch.stack([torch.randperm(9)[:4] for _ in range(2)])
    padding = torch.tensor([[False] * 4, [False, False, True, True]])
    ours, theirs = cells["KeptTokens"](index, padding), KeptTokens(index, padding)
    x, refined = torch.randn(2, 9, 5), torch.randn(2, 4, 5)
    assert torch.equal(ours.gather(x), theirs.gather(x))
    assert torch.equal(ours.gather(x.unflatten(-1, (1, 5))), theirs.gather(x.unflatten(-1, (1, 5))))
    assert torch.equal(ours.scatter(x, refined), theirs.scatter(x, refined))
    assert torch.equal(ours.mask(9), theirs.mask(9))


def test_a_few_steps_bring_the_losses_down(cells, batch):
    images, targets = batch
    torch.manual_seed(0)
    model = cells["SparseDETR"](load_trained(SHIPPED).model.config, load_trained(SHIPPED).model.backbone[0])
    padded, padding_mask = pad_images(images)
    with torch.no_grad():
        maps = list(model.backbone(padded).values())
    rest = [p for name, p in model.named_parameters() if not name.startswith("backbone")]
    optimiser = torch.optim.AdamW(rest, lr=1e-3)
    history = []
    for _ in range(12):
        terms = model.criterion(model.forward_features(maps, padding_mask), targets)
        loss = sum(model.criterion.weigh(terms).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append((loss.item(), terms["loss_mask_prediction"].item()))
    assert history[-1][0] < 0.9 * history[0][0] and history[-1][1] < history[0][1]


def test_the_chapter_adds_a_detector_of_some_size():
    """Lines of the modules and functions that stand in its cells."""
    body = ast.parse((build.BOOK / "c12_sparse_detr" / "chapter.py").read_text(encoding="utf-8")).body
    built = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert sum(node.end_lineno - node.lineno + 1 for node in built) >= FEWEST_LINES
