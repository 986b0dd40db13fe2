"""A whole detector cast to another precision, as ``model.half()`` does, detects what it did before."""

import copy

import pytest
import torch

from .every import EVERY, detector

# Relative to the largest score. 16 bits carry 8 (bfloat16) or 11 (float16) bits of every value through some 20 layers;
# in float64 it is what float32 had rounded.
TOLERANCES = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-4}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("name", EVERY)
def test_a_detector_in_another_precision_detects_the_same(name, dtype):
    image = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))
    model = detector(name).eval()
    with torch.no_grad():
        [before] = model([image])
        [after] = copy.deepcopy(model).to(dtype)([image.to(dtype)])
    assert after["boxes"].isfinite().all() and after["scores"].isfinite().all()
    if len(before["scores"]):
        assert after["scores"][0] == pytest.approx(float(before["scores"][0]), rel=TOLERANCES[dtype])
