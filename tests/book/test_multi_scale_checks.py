import numpy as np
import pytest
import torch

from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import (
    BOX_MISTAKES,
    LOCATION_MISTAKES,
    MS_DEFORM_ATTN_MISTAKES,
    WEIGHT_MISTAKES,
    attention_weights,
    box_locations,
    check_box_locations,
    check_locations,
    check_ms_deform_attn,
    check_weights,
    sampling_locations,
)
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.ops import ms_deform_attn, native
from dyhead_lab.ops.numba_reference import loops

from .planted import assert_bugs_are_caught

SUITES = [
    (check_locations, sampling_locations, LOCATION_MISTAKES),
    (check_box_locations, box_locations, BOX_MISTAKES),
    (check_weights, attention_weights, WEIGHT_MISTAKES),
    (check_ms_deform_attn, loops.ms_deform_attn, MS_DEFORM_ATTN_MISTAKES),
]


@pytest.mark.parametrize(("check", "solution", "bugs"), SUITES, ids=[suite[0].__name__ for suite in SUITES])
def test_the_solution_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def backend(name):
    """One of the library's backends, with the signature that the check asks for."""

    def function(*arrays):
        out = ms_deform_attn(*(torch.from_numpy(array) for array in arrays), backend=name)
        return out.unflatten(-1, arrays[0].shape[2:]).numpy()

    return function


@pytest.mark.parametrize("name", ["formula", "numba", "emulated"])
def test_every_backend_passes_the_readers_check(name):
    if name == "emulated" and not native.built("emulated"):
        pytest.skip("the native code is not built: make native")
    verdict = check_ms_deform_attn(backend(name))
    assert verdict, verdict.message


@pytest.mark.parametrize("corners", [2, 4])
def test_points_and_weights_are_those_of_the_library(corners):
    """The chapter's three functions together are what the layer hands over."""
    rng = np.random.default_rng(0)
    Q, M, L, P, C = 3, 4, 2, 2, 32
    shapes = np.array([(4, 6), (2, 3)])
    layer = MultiScaleDeformableAttention(C, L, M, P).double()
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=0.1)
    torch.nn.init.normal_(layer.attention_weights.weight, std=0.1)
    query, reference = torch.from_numpy(rng.normal(size=(1, Q, C))), rng.uniform(0.2, 0.8, (Q, corners))
    value = torch.from_numpy(rng.normal(size=(1, 30, C)))
    with torch.no_grad():
        on_levels = torch.from_numpy(reference)[None, :, None].expand(1, Q, L, corners)
        _, locations, weights = layer(query, on_levels, value, torch.from_numpy(shapes), torch.tensor([0, 24]))
        offsets = layer.sampling_offsets(query).view(Q, M, L, P, 2).numpy()
        logits = layer.attention_weights(query).view(Q, M, L, P).numpy()
    ours = sampling_locations(reference, offsets, shapes) if corners == 2 else box_locations(reference, offsets)
    np.testing.assert_allclose(ours, locations[0], atol=1e-12)  # float64, another order of operations
    np.testing.assert_allclose(attention_weights(logits), weights[0], atol=1e-12)
