"""Every photograph of the book lies in a package that the project requires, and its credit says so."""

import pytest
import torch

from dyhead_lab.data.photographs import PHOTOGRAPHS, photograph
from dyhead_lab.errors import UserError


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_photograph_is_an_image_as_detectors_take_it(name):
    image = photograph(name)
    assert image.shape[0] == 3 and min(image.shape[1:]) >= 300
    assert image.dtype == torch.float32 and 0 <= image.min() and image.max() <= 1
    assert (image[0] - image[1]).abs().max() > 0.05, "colours, not grey"
    assert any(licence in PHOTOGRAPHS[name].source for licence in ("CC0", "public domain"))


def test_an_unknown_photograph_is_named_with_the_nearest_one():
    with pytest.raises(UserError, match=r"no photograph 'cofee'.*Nearest: coffee"):
        photograph("cofee")
