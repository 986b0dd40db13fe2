"""What is not a finite number: a position shows in every backend alike; a pixel stays out of samples outside."""

import pytest
import torch
import torchvision

from dyhead_lab.ops import deform_conv2d

from .cases import BACKENDS, Attention, Conv, answers, answers_of_loops, assert_same, device_of, distance

NAN, INF = float("nan"), float("inf")
EVERY_BACKEND = [*BACKENDS, "formula"]
#: In place of a pixel outside, numba reads another one, with weight 0. To read zeros would make it 8 to 10 % slower.
READ_NOTHING_OUTSIDE = [backend for backend in EVERY_BACKEND if backend != "numba"]

#: With channels for the fast kernels, and without.
CONVS = [Conv(B=2, C=32, Co=8, size=(4, 5)), Conv(B=2, C=6, Co=4, size=(4, 5), G=2, groups=2)]
ATTENTIONS = [Attention(D=32), Attention(D=5)]


def broken_tap(case, value, axis, dtype=torch.float32):
    """Tensors with one offset that is not finite, of tap 4 at (1, 2) of image 0, and what must be NaN for it."""
    tensors = case.tensors(dtype)
    tensors["offset"][0, 2 * 4 + axis, 1, 2] = value
    nan = {f"grad_{name}": torch.zeros_like(t, dtype=torch.bool) for name, t in tensors.items()}
    nan["out"] = torch.zeros(case.B, case.Co, *case.output_size(), dtype=torch.bool)
    # Offset group 0 serves the first half of the channels where there are two, and these one group of outputs.
    outputs = case.Co // case.groups
    nan["out"][0, :outputs, 1, 2] = True
    nan["grad_offset"][0, 8:10, 1, 2] = True
    nan["grad_mask"][0, 4, 1, 2] = True
    nan["grad_weight"][:outputs, :, 1, 1] = True
    return tensors, nan


def broken_location(case, value, axis, dtype=torch.float32):
    """Tensors with one location that is not finite, and what must be NaN for it."""
    tensors = case.tensors(dtype)
    tensors["sampling_locations"][0, 2, 1, 1, 0, axis] = value
    nan = {f"grad_{name}": torch.zeros_like(t, dtype=torch.bool) for name, t in tensors.items()}
    nan["out"] = torch.zeros(case.B, case.Q, case.M, case.D, dtype=torch.bool)
    nan["out"][0, 2, 1] = True
    nan["out"] = nan["out"].flatten(2)
    nan["grad_sampling_locations"][0, 2, 1, 1, 0] = True
    nan["grad_attention_weights"][0, 2, 1, 1, 0] = True
    return tensors, nan


BROKEN = [(case, broken_tap) for case in CONVS] + [(case, broken_location) for case in ATTENTIONS]


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("case", "broken"), BROKEN, ids=["conv fast", "conv", "attention fast", "attention"])
@pytest.mark.parametrize("backend", [*EVERY_BACKEND, "loops"])
def test_a_position_that_is_not_finite_shows_and_nothing_else_does(backend, case, broken, axis, value):
    tensors, nan = broken(case, value, axis)
    if backend == "loops":
        got = answers_of_loops(case, tensors)
    else:
        got = answers(case, {n: t.to(device_of(backend)) for n, t in tensors.items()}, backend)
    for name, result in got.items():
        assert torch.equal(result.isnan().cpu(), nan[name]), name
    whole = answers(case, case.tensors(torch.float32), "formula")
    # Beside what is broken nothing changes: float32 sums in another order, 1e-5 as in test_backends.py. The gradient
    # to the input lacks the share of one sample in hundreds, and the bias sums over what is broken.
    for name in got.keys() - {"grad_input", "grad_value", "grad_bias"}:
        rest = ~nan[name]
        assert distance(got[name].cpu()[rest], whole[name][rest]) < 1e-5, name


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("case", "broken"), BROKEN, ids=["conv fast", "conv", "attention fast", "attention"])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_it_shows_in_other_types_and_orders_too(backend, case, broken, dtype, deterministic):
    tensors, nan = broken(case, NAN, 0, dtype)
    torch.use_deterministic_algorithms(deterministic)
    try:
        got = answers(case, {n: t.to(device_of(backend)) for n, t in tensors.items()}, backend)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, result in got.items():
        assert torch.equal(result.isnan().cpu(), nan[name]), name


def test_torchvision_reads_zeros_at_an_infinite_offset():
    """What our docstring says of it. At NaN its CPU kernel ends the process."""
    offset = torch.zeros(1, 2, 3, 3)
    offset[0, 1, 1, 1] = INF
    out = torchvision.ops.deform_conv2d(torch.ones(1, 1, 3, 3), offset, torch.ones(1, 1, 1, 1))
    assert out[0, 0, 1, 1] == 0 and out.sum() == 8


@pytest.mark.parametrize("position", [1e30, -1e30])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_positions_that_are_finite_read_zeros_however_far_they_are(backend, position):
    case = Conv(B=1)
    tensors = case.tensors(torch.float32, device_of(backend))
    tensors["offset"].fill_(position)
    got = answers(case, tensors, backend)
    assert torch.equal(got["out"], tensors["bias"].view(1, -1, 1, 1).expand_as(got["out"]))
    assert not any(got[f"grad_{name}"].count_nonzero() for name in ("input", "offset", "weight", "mask"))
    attention = Attention(B=1)
    tensors = attention.tensors(torch.float32, device_of(backend))
    tensors["sampling_locations"].fill_(position)
    assert not any(result.count_nonzero() for result in answers(attention, tensors, backend).values())


@pytest.mark.parametrize("value", [NAN, INF], ids=str)
@pytest.mark.parametrize("channels", [5, 32])
@pytest.mark.parametrize("backend", READ_NOTHING_OUTSIDE)
def test_a_pixel_that_is_not_finite_stays_out_of_samples_outside_the_image(backend, channels, value):
    """The nearest pixel of a sample outside is the border's. It must count as zero, not as zero times infinity."""
    case = Conv(B=1, C=channels, Co=8, kernel=(1, 1), padding=(0, 0), masked=False)
    tensors = case.tensors(torch.float32, device_of(backend))
    tensors["offset"].fill_(100.0)
    expected = answers(case, tensors, backend)
    tensors["input"].fill_(value)
    assert_same(answers(case, tensors, backend), expected, 0.0)
    attention = Attention(B=1, D=channels)
    tensors = attention.tensors(torch.float32, device_of(backend))
    tensors["sampling_locations"].fill_(7.0)
    tensors["value"].fill_(value)
    assert not any(result.count_nonzero() for result in answers(attention, tensors, backend).values())


@pytest.mark.parametrize("backend", READ_NOTHING_OUTSIDE)
def test_half_outside_the_image_only_the_pixels_inside_count(backend):
    x = torch.tensor([[[[2.0, INF], [4.0, 8.0]]]], device=device_of(backend))
    offset = torch.zeros(1, 2, 2, 2, device=device_of(backend))
    offset[0, :, 1, 0] = torch.tensor([0.5, -0.25])  # of (1, 0): half of row 2 and a quarter of column -1 lie outside
    out = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1, device=x.device), backend=backend)
    assert out[0, 0, 1, 0].item() == 4.0 * 0.5 * 0.75
