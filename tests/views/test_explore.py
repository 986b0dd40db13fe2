"""Any explorer on any weights, by the names that ``load_trained`` takes."""

import pytest
import torch

from dyhead_lab.errors import UserError
from dyhead_lab.trace import trace
from dyhead_lab.views.explore import explore
from dyhead_lab.views.look import Look
from dyhead_lab.views.sampling_points import SamplingPoints
from dyhead_lab.views.scale_explorer import ScaleExplorer, scale_numbers
from dyhead_lab.views.scale_weights import ScaleWeights
from dyhead_lab.views.sparse_tokens import SparseTokens
from dyhead_lab.views.task_pieces import TaskPieces
from dyhead_lab.zoo import load_trained

IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(n)) for n in range(2)]


def test_points_of_named_weights_are_those_of_a_trace_by_hand():
    trained = load_trained("deformable_detr_tiny")
    with torch.no_grad(), trace(trained.model) as seen:
        trained.model([IMAGES[0]])
    by_hand, by_name = SamplingPoints(seen, IMAGES[0]), explore(SamplingPoints, IMAGES[0], "deformable_detr_tiny")
    assert [layer["name"] for layer in by_name.layers] == [layer["name"] for layer in by_hand.layers]
    # float32 sums in another order
    torch.testing.assert_close(torch.tensor(by_name.points), torch.tensor(by_hand.points), rtol=0, atol=1e-4)


def test_a_dynamic_head_in_every_explorer_of_it():
    trained = load_trained("quickstart")
    weights = explore(ScaleWeights, IMAGES, trained.path)  # a path does as well as a name
    assert len(weights.gates[0][0]) == 2 and weights.levels[0] == "level 1"
    ratios = explore(ScaleExplorer, IMAGES, trained)
    expected = scale_numbers(trained.model, IMAGES, len(ratios.levels))["scale ratio"][0][0].mean()  # of two
    assert ratios.medians["scale ratio"][0][0] == pytest.approx(float(expected), abs=1e-3)
    assert explore(TaskPieces, IMAGES, "quickstart").levels == ratios.levels
    assert explore(SamplingPoints, "workshop", "quickstart").layers


def test_the_slider_of_a_sparse_detector():
    trained = load_trained("sparse_detr_tiny")
    before = trained.model.rho
    tokens = explore(SparseTokens, IMAGES[0], trained)
    assert tokens.numbers["rho"] == before == trained.model.rho
    dear = tokens.numbers["cost"]
    tokens.chosen = 0
    assert tokens.numbers["rho"] == 0.05 and tokens.numbers["cost"] < dear
    assert trained.model.rho == before, "the one that was given keeps its ratio"


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"SparseTokens shows nothing of detr_tiny, a DETR"):
        explore(SparseTokens, IMAGES[0], "detr_tiny")
    with pytest.raises(UserError, match=r"ScaleWeights shows nothing of detr_tiny, a DETR: .*no scale_weights"):
        explore(ScaleWeights, IMAGES, "detr_tiny")
    with pytest.raises(UserError, match="Nearest names: SenseTime/deformable-detr"):
        explore(SamplingPoints, IMAGES[0], "SenseTime/deformable-det")
    with pytest.raises(UserError, match="explorer: got Look, expected one of SamplingPoints"):
        explore(Look, IMAGES[0], "quickstart")
    with pytest.raises(UserError, match="images: got none"):
        explore(ScaleWeights, [], "quickstart")
