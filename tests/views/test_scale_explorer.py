import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from dyhead_lab.attention import DyHead, scale_ratio
from dyhead_lab.trace import trace
from dyhead_lab.views.scale_explorer import (
    BARS,
    RATIO,
    RELEASED_SPANS,
    WEIGHT,
    ScaleExplorer,
    numbers_of,
    scale_numbers,
)

LEVELS = ["P3", "P4", "P5"]
FINER, SAME, COARSER = (name for name in RELEASED_SPANS if name != RATIO)
IMAGES = [torch.full((3, 40, 40), i / 6) for i in range(6)]


def numbers(blocks=2, images=6):
    generator = torch.Generator().manual_seed(0)
    ratios = [[0.5 + 1.5 * torch.rand(images, generator=generator) for _ in LEVELS] for _ in range(blocks)]
    gates = [[0.5 + 0.5 * torch.rand(images if l else 0, generator=generator) for l in range(3)] for _ in range(blocks)]
    return {RATIO: ratios, FINER: gates}


class Pyramids(torch.nn.Module):
    """A Dynamic Head that takes images: level l is the image, thinned."""

    def __init__(self, form):
        super().__init__()
        self.head = DyHead(16, blocks=2, form=form, num_levels=3) if form == "paper" else DyHead(16, blocks=2)
        for name, parameter in self.head.named_parameters():
            if ".scale." in name:
                torch.nn.init.normal_(parameter)

    def forward(self, images):
        x = torch.stack(images)[:, :1].repeat(1, 16, 1, 1)
        return self.head([x[:, :, ::step, ::step] for step in (1, 2, 4)])


@pytest.mark.parametrize("form", ["released", "paper"])
def test_numbers_of_many_batches_are_those_of_single_images(form):
    torch.manual_seed(0)
    model = Pyramids(form)
    images = [torch.rand(3, 16 + 8 * (number % 2), 16) for number in range(5)]  # sizes that no batch can mix
    found = scale_numbers(model, images, levels=3, batch_size=2)
    for number, image in enumerate(images):
        single = scale_numbers(model, [image], levels=3)
        assert found.keys() == single.keys()
        for name, rows in found.items():
            for block, alone in zip(rows, single[name], strict=True):
                for values, value in zip(block, alone, strict=True):
                    assert len(value) == bool(len(values))
                    # float32: batches of another size add up in another order
                    torch.testing.assert_close(values[number : number + 1][: len(value)], value, atol=1e-5, rtol=1e-5)
    assert model.training, "the mode is given back"


def test_the_gates_of_a_level_stand_under_their_names_and_ratios_are_their_quotients():
    torch.manual_seed(0)
    model = Pyramids("released")
    with torch.no_grad(), trace(model) as seen:
        model([torch.rand(3, 16, 16) for _ in range(4)])
    gates = seen["head.blocks.0.scale", "scale_weights"]
    found = numbers_of(seen, 3)
    first, middle, last = ([found[name][0][l] for name in (FINER, SAME, COARSER)] for l in range(3))
    assert len(first[0]) == 0 and torch.equal(torch.stack(first[1:], 1), gates[0])
    assert torch.equal(torch.stack(middle, 1), gates[1])
    assert len(last[2]) == 0 and torch.equal(torch.stack(last[:2], 1), gates[2])
    assert torch.equal(found[RATIO][0][1], gates[1][:, 0] / gates[1][:, 2])


def test_the_paper_form_has_one_weight_a_level():
    torch.manual_seed(0)
    model = Pyramids("paper")
    with torch.no_grad(), trace(model) as seen:
        model([torch.rand(3, 16, 16) for _ in range(4)])
    weights_BL = next(seen.find("scale_weights"))[1]
    found = numbers_of(seen, 3)
    assert found.keys() == {RATIO, WEIGHT}
    assert torch.equal(torch.stack(found[WEIGHT][0], 1), weights_BL)
    assert torch.equal(found[RATIO][0][1], scale_ratio(weights_BL, 1))


def test_traces_that_do_not_tell_are_refused():
    with trace(torch.nn.Identity()) as seen:
        pass
    with pytest.raises(ValueError, match="holds no scale_weights"):
        numbers_of(seen, 3)
    with pytest.raises(ValueError, match="levels: got 2"):
        numbers_of(seen, 2)


def test_every_image_stands_in_the_bar_of_its_number():
    given = numbers()
    explorer = ScaleExplorer(given, LEVELS, IMAGES)
    for name, rows in given.items():
        edges = RELEASED_SPANS[name].edges()
        for block, places in zip(rows, explorer.bars[name], strict=True):
            for values, bars in zip(block, places, strict=True):
                assert len(bars) == len(values)
                for x, bar in zip(values.tolist(), bars, strict=True):
                    assert edges[bar] <= x + 1e-6 and x <= edges[bar + 1] + 1e-6  # float32
    assert explorer.medians[FINER][0][0] is None, "the finest level has no finer branch"
    assert explorer.get_state()["names"] == [RATIO, FINER], "the page gets an order"
    assert explorer.medians[RATIO][1][2] == pytest.approx(float(np.median(given[RATIO][1][2])), abs=1e-4)  # 4 digits


@pytest.mark.parametrize(("ratio", "bar"), [(0.5, 0), (1.0, BARS // 2), (2.0, BARS - 1), (0.1, 0), (9.0, BARS - 1)])
def test_edges_belong_to_the_bar_above_and_what_lies_beyond_to_the_outermost(ratio, bar):
    values = {RATIO: [[torch.full((6,), ratio)] * 3]}
    assert ScaleExplorer(values, LEVELS, IMAGES).bars[RATIO][0][0] == [bar] * 6


def test_a_bar_opens_its_images_and_they_stay_chosen_on_another_level():
    explorer = ScaleExplorer(numbers(), LEVELS, IMAGES)
    assert int(numbers()[RATIO][0][0].argmin()) in explorer.chosen, "at first the lowest bar is open"
    explorer.set_state({"block": 1, "level": 2})  # what a click sends
    bar = explorer.bars[RATIO][1][2][4]
    assert 4 in explorer.images_of(bar)
    explorer.set_state({"chosen": explorer.images_of(bar)})
    before = list(explorer.chosen)
    explorer.set_state({"measured": FINER, "level": 1})
    assert explorer.chosen == before
    assert f"Chosen: {len(before)}." in explorer.picture().alt and FINER in explorer.picture().alt


def test_other_numbers_are_shown_and_the_choices_stay():
    explorer = ScaleExplorer(numbers(), LEVELS, IMAGES)
    explorer.set_state({"block": 1, "level": 2, "chosen": [3, 4]})
    explorer.show({RATIO: [[torch.full((6,), 1.5)] * 3] * 2}, "iteration 200")
    assert (explorer.block, explorer.level, explorer.chosen) == (1, 2, [3, 4])
    assert explorer.status == "iteration 200" and explorer.medians[RATIO] == [[1.5] * 3] * 2


@pytest.mark.parametrize(
    ("name", "value"), [("block", 2), ("level", -1), ("chosen", [6]), ("measured", "the moon"), ("chosen", [-1])]
)
def test_choices_that_there_are_not_are_refused(name, value):
    explorer = ScaleExplorer(numbers(), LEVELS, IMAGES)
    with pytest.raises(traitlets.TraitError, match=f"{name}: got"):
        setattr(explorer, name, value)


def test_numbers_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="scale ratio, block 1: got 3 levels, expected 2"):
        ScaleExplorer(numbers(), LEVELS[:2], IMAGES)
    with pytest.raises(ValueError, match=r"scale ratio, block 1, P3: got shape \(6,\), expected \(5,\)"):
        ScaleExplorer(numbers(), LEVELS, IMAGES[:5])
    with pytest.raises(ValueError, match="images: got none"):
        ScaleExplorer(numbers(), LEVELS, [])
    with pytest.raises(ValueError, match="expected 'scale ratio' with at least 1 block"):
        ScaleExplorer({FINER: []}, LEVELS, IMAGES)


def test_the_picture_has_a_panel_per_block_and_level_and_the_state_is_small():
    explorer = ScaleExplorer(numbers(), LEVELS, IMAGES)
    figure = explorer._figure()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:6] == [f"block {i}, {name}" for i in (1, 2) for name in LEVELS]
    assert len(titles) - 6 == len(explorer.chosen), "and the chosen images"
    data, metadata = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and "image/png" in data
    assert Image.open(io.BytesIO(explorer.picture().png)).format == "PNG"
    assert "block 2: P3" in metadata["image/png"]["alt"]
    own = {name: value for name, value in explorer.get_state().items() if name not in ("_esm", "_css")}
    assert len(str(own)) < 10_000
