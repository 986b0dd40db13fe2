import io

import pytest
import torch
import traitlets
from PIL import Image
from torch import nn

from dyhead_lab.attention import DyHead
from dyhead_lab.trace import trace
from dyhead_lab.views.scale_weights import ScaleWeights, branch_names, gates_of

LEVELS = ["P3", "P4", "P5"]
IMAGES = [torch.full((3, 40, 40), value) for value in (0.2, 0.8)]


@pytest.fixture
def gates():
    """Two blocks, three levels, two images."""
    generator = torch.Generator().manual_seed(0)
    return [[0.5 + 0.5 * torch.rand(2, n, generator=generator) for n in (2, 3, 2)] for _ in range(2)]


def test_gates_come_from_a_trace_in_the_order_of_blocks_and_levels():
    torch.manual_seed(0)
    head = DyHead(16, blocks=2)
    for block in head.blocks:
        nn.init.normal_(block.scale.gate.weight)
    pyramid = [torch.randn(2, 16, size, size) for size in (16, 8, 4)]
    with torch.no_grad(), trace(head) as seen:
        head(pyramid)
    gates = gates_of(seen)
    assert [[tuple(w.shape) for w in block] for block in gates] == [[(2, 2), (2, 3), (2, 2)]] * 2
    # The first level of the first block: its own gate is the finest, computed from the block's own branch.
    block, own = head.blocks[0], pyramid[0]
    with torch.no_grad(), trace(head) as again:
        block.scale(block.spatial(own, None, pyramid[1]))
    assert torch.equal(gates[0][0], gates_of(again)[0][0])


def test_a_trace_without_scale_weights_is_refused():
    with trace(nn.Identity()) as seen:
        pass
    with pytest.raises(ValueError, match="no scale_weights"):
        gates_of(seen)


def test_branches_are_named_fine_to_coarse():
    assert branch_names(LEVELS, 0) == ["same level (P3)", "coarser (P4)"]
    assert branch_names(LEVELS, 1) == ["finer (P3)", "same level (P4)", "coarser (P5)"]
    assert branch_names(LEVELS, 2) == ["finer (P4)", "same level (P5)"]


def test_the_reading_follows_the_choice(gates):
    explorer = ScaleWeights(gates, LEVELS, IMAGES)
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]), names="reading")
    mean = gates[0][0].mean(0)
    assert explorer.reading["gate"] == pytest.approx(float(mean[0]), abs=1e-4)  # readings have four digits
    explorer.set_state({"block": 1, "level": 1, "branch": 2})  # what a click sends
    explorer.image = 1
    row = gates[1][1][1]
    assert seen[-1] == explorer.reading
    assert explorer.reading["branch"] == "coarser (P5)" and explorer.reading["image"] == 1
    assert explorer.reading["gate"] == pytest.approx(float(row[2]), abs=1e-4)
    assert explorer.reading["ratio"] == pytest.approx(float(row[0] / row[2]), abs=1e-4)


def test_choices_outside_the_numbers_are_refused(gates):
    explorer = ScaleWeights(gates, LEVELS, IMAGES)
    for name, value in (("block", 2), ("level", -1), ("image", 2)):
        with pytest.raises(traitlets.TraitError, match=f"{name}: got {value}"):
            setattr(explorer, name, value)


def test_numbers_that_do_not_fit_are_named(gates):
    with pytest.raises(ValueError, match=r"gates\[0\]: got 3 levels, expected 2"):
        ScaleWeights(gates, LEVELS[:2], IMAGES)
    with pytest.raises(ValueError, match=r"gates\[0\]\[0\]: got \(2, 2\), expected \(1, 2\)"):
        ScaleWeights(gates, LEVELS, IMAGES[:1])
    with pytest.raises(ValueError, match="images: got none"):
        ScaleWeights(gates, LEVELS, [])


def test_the_state_is_small_and_a_picture_stands_beside_the_widget(gates):
    explorer = ScaleWeights(gates, LEVELS, IMAGES)
    own = {name: value for name, value in explorer.get_state().items() if name not in ("_esm", "_css")}
    assert len(str(own)) < 10_000
    data, metadata = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert Image.open(io.BytesIO(explorer.picture().png)).format == "PNG"
    assert "image/png" in data and "block 2: P3" in metadata["image/png"]["alt"]


def test_nothing_is_fetched_from_the_network():
    for text in (ScaleWeights._esm, ScaleWeights._css):
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "") and "import " not in text
