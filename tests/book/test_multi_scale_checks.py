import numpy as np
import pytest
import torch

from dyhead_book.c10_multi_scale_deformable_attention.module_checks import (
    MODULE_MISTAKES,
    RING_MISTAKES,
    check_module,
    check_ring,
    ring_formula,
)
from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import (
    GRID_SAMPLE_MISTAKES,
    LOCATION_MISTAKES,
    LOOPS_MISTAKES,
    check_locations,
    check_ms_deform_attn,
    check_on_tensors,
    locations_formula,
)
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.ops import ms_deform_attn, native
from dyhead_lab.ops.numba_reference import loops

from .planted import assert_bugs_are_caught

SUITES = [
    (check_locations, locations_formula, LOCATION_MISTAKES),
    (check_ring, ring_formula, RING_MISTAKES),
    (check_ms_deform_attn, loops.ms_deform_attn, LOOPS_MISTAKES),
]


@pytest.mark.parametrize(("check", "solution", "bugs"), SUITES, ids=[suite[0].__name__ for suite in SUITES])
def test_the_formula_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def backend(name):
    """One of the library's backends, with the signature that the check of the loops asks for."""

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


def test_the_operator_passes_on_tensors_and_each_bug_is_caught():
    def on_tensors(imitate):
        def function(*tensors):
            return torch.from_numpy(imitate(*(tensor.numpy() for tensor in tensors))).flatten(2)

        return function

    assert check_on_tensors(ms_deform_attn)
    for mistake in GRID_SAMPLE_MISTAKES:
        verdict = check_on_tensors(on_tensors(mistake.imitate))
        assert not verdict and f"when {mistake.name}." in verdict.message


def test_an_answer_of_another_shape_is_told_so():
    verdict = check_on_tensors(lambda value, *others: value.new_zeros(2, 3))
    assert not verdict and "shape" in verdict.message


def test_the_library_s_module_passes():
    assert check_module(MultiScaleDeformableAttention)


@pytest.mark.parametrize("mistake", MODULE_MISTAKES, ids=lambda mistake: mistake.name[:40])
def test_a_module_with_a_mistake_is_told_which(mistake):
    class Mistaken(MultiScaleDeformableAttention):
        def forward(self, *inputs):
            right = MultiScaleDeformableAttention(self.channels, self.levels, self.heads, self.points).double()
            right.load_state_dict(self.state_dict())
            return mistake.imitate(right, *inputs)

    verdict = check_module(Mistaken)
    assert not verdict and f"when {mistake.name}." in verdict.message, verdict.message


def test_a_module_whose_names_differ_is_told_which_weights_do_not_fit():
    class Renamed(torch.nn.Module):
        def __init__(self, channels, levels, heads, points):
            super().__init__()
            self.offsets = torch.nn.Linear(channels, heads * levels * points * 2)

    verdict = check_module(Renamed)
    assert not verdict and "sampling_offsets" in verdict.message


def vectorised(value, shapes, starts, locations, weights):
    """Another style: each level padded by zeros, all points at once."""
    B, _, M, D = value.shape
    batch, head = np.arange(B)[:, None, None, None], np.arange(M)[None, None, :, None]
    out = np.zeros((*weights.shape[:3], D))
    for l, (H, W) in enumerate(shapes):
        level = value[:, starts[l] : starts[l] + H * W].reshape(B, H, W, M, D)
        padded = np.pad(level, ((0, 0), (3, 3), (3, 3), (0, 0), (0, 0)))
        x, y = locations[:, :, :, l, :, 0] * W - 0.5 + 3, locations[:, :, :, l, :, 1] * H - 0.5 + 3
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
                share = (weights[:, :, :, l] * share_y * share_x)[..., None]
                out += (share * padded[batch, row, column, head]).sum(3)
    return out


def ring_by_hand(heads, levels, points):
    """Another style: plain loops."""
    out = torch.zeros(heads, levels, points, 2)
    for m in range(heads):
        x, y = np.cos(2 * np.pi * m / heads), np.sin(2 * np.pi * m / heads)
        for k in range(points):
            out[m, :, k] = torch.tensor([x, y]) / max(abs(x), abs(y)) * (k + 1)
    return out


@pytest.mark.parametrize(("check", "answer"), [(check_ms_deform_attn, vectorised), (check_ring, ring_by_hand)])
def test_right_answers_in_other_styles_pass(check, answer):
    verdict = check(answer)
    assert verdict, verdict.message
