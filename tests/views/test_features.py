import pytest
import torch

from dyhead_lab.attention import DyHead
from dyhead_lab.trace import trace
from dyhead_lab.views.features import STEPS, energy_share, features_figure, sparsity_figure, traced_features
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4", "P5"]


@pytest.fixture(scope="module")
def seen():
    torch.manual_seed(0)
    head = DyHead(16, blocks=2)
    with torch.no_grad(), trace(head) as t:
        head([torch.randn(2, 16, size, size) for size in (10, 5, 3)])
    return t


def test_features_come_by_block_and_level(seen):
    for name in STEPS:
        found = traced_features(seen, name)
        assert [[tuple(x.shape[2:]) for x in block] for block in found] == [[(10, 10), (5, 5), (3, 3)]] * 2
    assert torch.equal(traced_features(seen, "after_task")[1][0], seen["blocks.1", "after_task"][0])
    with trace(torch.nn.Identity()) as nothing, pytest.raises(ValueError, match="no after_scale"):
        traced_features(nothing, "after_scale")


def test_energy_share_by_hand():
    equal = torch.ones(1, 3, 10, 10)
    one_place = torch.zeros(1, 3, 10, 10)
    one_place[:, :, 4, 4] = 5
    # 10 of 100 positions have twice the amplitude: four times the energy, 40 / (40 + 90).
    stronger = torch.ones(1, 3, 10, 10)
    stronger[:, :, 0] = 2
    shares = energy_share(torch.cat([equal, one_place, stronger]))
    # Sums of a hundred float32 numbers.
    torch.testing.assert_close(shares, torch.tensor([0.1, 1.0, 40 / 130]), rtol=1e-6, atol=0)


def test_energy_share_does_not_depend_on_scale_or_order():
    x = torch.randn(2, 4, 6, 5)
    mixed = x.flatten(2)[..., torch.randperm(30)].view(2, 4, 6, 5)
    torch.testing.assert_close(energy_share(7 * mixed), energy_share(x))
    assert energy_share(x, top=1.0).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("features", "top", "named"), [(torch.ones(1, 2, 3), 0.1, "features"), (torch.ones(1, 2, 3, 3), 0.0, "top")]
)
def test_what_does_not_fit_is_named(features, top, named):
    with pytest.raises(ValueError, match=f"^{named}: got"):
        energy_share(features, top)


def test_figures_say_the_numbers_that_were_traced(seen):
    steps = {name: traced_features(seen, name)[0] for name in STEPS}
    figure = features_figure(torch.rand(3, 40, 40), steps, LEVELS, index=1)
    titles = {axes.get_title() for axes in figure.axes}
    assert f"after_task: {float(energy_share(steps['after_task'][2][1:2])):.0%}" in titles
    shares = {name: [energy_share(x) for x in maps] for name, maps in steps.items()}
    figure = sparsity_figure(shares, LEVELS)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == LEVELS
    assert Picture(figure, "a test").png
    with pytest.raises(ValueError, match="steps: after_spatial has 3 maps, expected 2"):
        features_figure(torch.rand(3, 40, 40), steps, LEVELS[:2])
