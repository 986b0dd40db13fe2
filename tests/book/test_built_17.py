"""Chapter 17: the attention of its cells takes the library's weights, learns the toy, and comes back from a file."""

import sys

import pytest
import torch
from torch import nn

from dyhead_book.practice.module_checks import drawn, filled
from dyhead_lab import attention
from dyhead_lab.training import Recipe, train
from dyhead_lab.zoo import load_trained

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("17_write_your_own_attention")


def test_the_attention_of_the_chapter_is_the_librarys(cells):
    library = drawn(attention.JointAttention, {"channels": 8})
    own = filled(cells["JointAttention"](8), library.state_dict())
    levels = [torch.randn(2, 8, *size, dtype=torch.float64) for size in ((4, 6), (2, 3))]
    with torch.no_grad():
        for mine, theirs in zip(own(levels), library(levels), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)  # float64, sums in another order


def test_it_starts_by_changing_nothing(cells):
    levels = [torch.randn(1, 8, 4, 6), torch.randn(1, 8, 2, 3)]
    for name in ("JointAttention", "CoarseReader", "OwnLevel", "NotAlike"):
        output = cells[name](8)(levels)
        assert all(torch.equal(x, y) for x, y in zip(levels, output, strict=True)), name


def test_comparing_over_all_levels_learns_the_toy_and_looking_at_one_place_does_not(cells):
    cells["problem"] = cells["draw_pairs"](256, torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        _, compared = cells["learn"](lambda: cells["JointAttention"](cells["CHANNELS"]), seed=0, steps=150)
        _, guessed = cells["learn"](nn.Identity, seed=0, steps=150)
    assert compared[-1] > 0.8 and len(compared) == 4
    assert abs(guessed[-1] - 1 / 4) < 0.12  # more than four standard deviations of a share of 256


def test_its_weights_are_saved_and_loaded_by_import_path(cells, tmp_path):
    """As in the chapter, where the module is the notebook itself."""
    recipe: Recipe = cells["Recipe"](
        name="joint",
        summary="a test",
        detector=cells["frozen_atss"],
        dataset=cells["shapes"],
        model={"dyhead": {"extra": cells["JointAttention"]}, "min_size": 160, "max_size": 320},
        iterations=2,
        evaluate_every=2,
        batch_size=2,
        warmup=1,
        precision="fp32",
    )
    train(recipe, out=tmp_path / "run", progress=False)
    module = cells["JointAttention"].__module__
    assert f"{module}:JointAttention" in (tmp_path / "run" / "run.json").read_text(encoding="utf-8")
    loaded = load_trained(tmp_path / "run").model.backbone.neck.blocks[0].extra
    assert type(loaded) is sys.modules[module].JointAttention
    assert loaded.gamma.item() != 0
