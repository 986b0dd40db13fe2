"""The sparse explorer: one slider, and everything that depends on rho follows."""

import base64
import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image
from torch import nn

from dyhead_lab.detectors.detr.configured import sparse_detr
from dyhead_lab.trace import trace
from dyhead_lab.views.sparse_tokens import SparseTokens, read_sparse_pass

CLASSES = ["a", "b", "c"]
IMAGE = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"channels": 32, "heads": 4, "feedforward": 64, "encoder_layers": 2, "decoder_layers": 2, "queries": 9}
    return sparse_detr(classes=3, backbone="narrow", rho=0.3, refine=True, levels=3, **sizes).eval()


@pytest.fixture
def asked():
    return []


@pytest.fixture
def explorer(model, asked):
    def run(rho):
        asked.append(rho)
        model.rho = rho
        with torch.no_grad(), trace(model) as seen:
            [detection] = model([IMAGE])
        return seen, detection

    return SparseTokens(run, IMAGE, [0.1, 0.3, 1.0], CLASSES, cost=lambda rho: 1e6 * (1 + rho), threshold=0.0)


def cells(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


def test_the_slider_runs_the_model_once_for_each_ratio(explorer, asked):
    for chosen in (1, 0, 2, 1):
        explorer.chosen = chosen
        assert explorer.answer == {"chosen": chosen}
    assert asked == [0.1, 0.3, 1.0]
    assert [entry["rho"] for entry in explorer.visited] == [0.1, 0.3, 1.0]


def test_more_tokens_cover_more_of_the_attention(explorer):
    shares, kept = [], []
    for chosen in range(3):
        explorer.chosen = chosen
        shares.append(explorer.numbers["corr"])
        kept.append(explorer.numbers["kept"])
    tokens = explorer.numbers["tokens"]
    assert kept == [int(0.1 * tokens) + 1, int(0.3 * tokens) + 1, tokens]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_the_maps_hold_every_token_of_every_level(explorer):
    sizes = [tuple(level["size"]) for level in explorer.levels]
    assert sizes == [(12, 16), (6, 8), (3, 4)]
    assert all(len(cells(level["dam"])) == H * W for level, (H, W) in zip(explorer.levels, sizes, strict=True))
    assert sum((cells(level["kept"]) > 0).sum() for level in explorer.levels) == explorer.numbers["kept"]
    assert max(cells(level["dam"]).max() for level in explorer.levels) == 255


def test_boxes_carry_names_and_scores(explorer):
    assert len(explorer.boxes) == explorer.numbers["detections"] > 0
    x1, y1, x2, y2, name, score = explorer.boxes[0]
    assert x1 <= x2 and y1 <= y2 and name in CLASSES and 0 <= score <= 1


@pytest.mark.parametrize("rhos", [[], [0.3, 0.1], [0.0, 0.5], [0.5, 1.5], [0.5, 0.5]])
def test_ratios_that_are_none_are_refused(rhos):
    with pytest.raises(ValueError, match=r"rhos: expected rising ratios in \(0, 1\]"):
        SparseTokens(lambda rho: None, IMAGE, rhos, CLASSES, cost=float)


def test_a_choice_outside_and_a_dense_detector_are_refused(explorer):
    with pytest.raises(traitlets.TraitError, match=r"chosen: got 3, expected 0\.\.2"):
        explorer.chosen = 3
    with trace(nn.Identity()) as nothing:
        pass
    with pytest.raises(ValueError, match="expected a pass of a sparse detector"):
        read_sparse_pass(nothing, {})


def test_the_state_is_small_and_a_picture_stands_beside_the_widget(explorer):
    own = {name: value for name, value in explorer.get_state().items() if name not in ("_esm", "_css", "source")}
    assert len(str(own)) < 10_000
    data, metadata = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "With rho 0.1 the encoder refines 26 of 252 tokens" in metadata["image/png"]["alt"]
    assert Image.open(io.BytesIO(explorer.picture().png)).format == "PNG"
