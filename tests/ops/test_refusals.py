"""Bad input is refused with an error that names the argument, what was given and what is expected."""

from __future__ import annotations

import re

import pytest
import torch

from dyhead_lab.ops import deform_conv2d, ms_deform_attn

from .cases import Attention, Conv, levels_of

CASE = Conv(B=2, C=8, Co=6, size=(7, 6), padding=(0, 0), groups=2, G=2)
GOOD = CASE.tensors(torch.float32)
Ho, Wo = CASE.output_size()
META = torch.device("meta")


def label(part):
    """Names of cases: the argument and the message."""
    return part if isinstance(part, str) else ""


#: argument, what it is given, the error, and text that the message must hold
CONV_REFUSALS = [
    ("input", [[1.0]], TypeError, "input is a list; expected a tensor of shape (B, C, H, W)"),
    (
        "input",
        torch.ones(2, 8, 7, 6).long(),
        TypeError,
        "input of shape (2, 8, 7, 6) has dtype torch.int64; expected float64",
    ),
    ("input", torch.ones(2, 8, 7, 6).cfloat(), TypeError, "input"),
    ("input", torch.ones(2, 8, 7, 6).to_sparse(), TypeError, "input has layout torch.sparse_coo"),
    ("input", torch.nested.as_nested_tensor([torch.ones(8, 7, 6)]), TypeError, "input has layout nested"),
    ("input", torch.ones(8, 7, 6), ValueError, "input has shape (8, 7, 6); expected (B, C, H, W)"),
    ("input", torch.ones(2, 0, 7, 6), ValueError, "input has shape (2, 0, 7, 6); expected C of at least 1"),
    ("input", torch.ones(2, 8, 0, 6), ValueError, "expected H of at least 1"),
    ("input", torch.ones(2, 8, 7, 0), ValueError, "expected W of at least 1"),
    ("offset", None, TypeError, "offset is a NoneType; expected a tensor"),
    ("offset", torch.ones(2, 36, 20), ValueError, "offset has shape (2, 36, 20); expected (B, 2*G*K, Ho, Wo)"),
    ("offset", GOOD["offset"].double(), TypeError, "offset of shape"),
    ("offset", torch.ones(2, 35, Ho, Wo), ValueError, "a multiple of 2 * 3 * 3 = 18"),
    ("offset", torch.ones(2, 0, Ho, Wo), ValueError, "a multiple of 2 * 3 * 3 = 18"),
    ("offset", torch.ones(2, 54, Ho, Wo), ValueError, "offset groups that divides C = 8, not 3"),
    ("offset", torch.ones(2, 36, 7, 6), ValueError, "offset has shape (2, 36, 7, 6); expected (2, 36, 5, 4)"),
    ("offset", torch.ones(1, 36, Ho, Wo), ValueError, "expected (2, 36, 5, 4)"),
    ("offset", GOOD["offset"].to(META), ValueError, "offset is on meta; expected cpu, where input is"),
    ("weight", None, TypeError, "weight is a NoneType"),
    ("weight", torch.ones(6, 36), ValueError, "weight has shape (6, 36); expected (Co, C / groups, Kh, Kw)"),
    ("weight", GOOD["weight"].half(), TypeError, "expected float32 (that of input)"),
    ("weight", torch.ones(6, 3, 3, 3), ValueError, "a second size that divides C = 8"),
    ("weight", torch.ones(5, 4, 3, 3), ValueError, "Co divisible by groups = C / 4 = 2"),
    ("weight", torch.ones(0, 4, 3, 3), ValueError, "expected Co of at least 1"),
    ("weight", torch.ones(6, 4, 0, 3), ValueError, "expected Kh of at least 1"),
    ("weight", torch.ones(6, 4, 8, 3), ValueError, "a kernel that fits into the padded input of 7 x 6"),
    ("weight", GOOD["weight"].to(META), ValueError, "weight is on meta"),
    ("dilation", 4, ValueError, "a kernel that fits"),
    ("bias", torch.ones(8), ValueError, "bias has shape (8,); expected (6,)"),
    ("bias", 1.0, TypeError, "bias is a float"),
    ("bias", torch.ones(6).double(), TypeError, "bias"),
    ("mask", torch.ones(2, 9, Ho, Wo), ValueError, "mask has shape (2, 9, 5, 4); expected (2, 18, 5, 4)"),
    ("mask", torch.ones(2, 18, 5, 5), ValueError, "mask has shape (2, 18, 5, 5)"),
    ("mask", GOOD["mask"].bool(), TypeError, "mask"),
    ("stride", 0, ValueError, "stride is 0; expected one integer or two, each from 1 to 2147483647"),
    ("stride", 2**70, ValueError, "stride is 1180591620717411303424; expected one integer or two, each from 1"),
    ("dilation", (1, 2**31), ValueError, "dilation is (1, 2147483648)"),
    ("stride", (1, 1, 1), ValueError, "stride is (1, 1, 1)"),
    ("stride", 1.5, TypeError, "stride is 1.5; expected an integer or two"),
    ("stride", True, TypeError, "stride is True"),
    ("padding", (0, -1), ValueError, "padding is (0, -1)"),
    ("padding", "same", TypeError, "padding is 'same'"),
    ("dilation", (1, 0), ValueError, "dilation is (1, 0)"),
    ("backend", "triton", ValueError, "backend is 'triton'; expected one of cuda, numba, formula, emulated"),
    ("backend", "cuda", ValueError, "backend 'cuda' needs tensors on cuda; these are on cpu"),
]


@pytest.mark.parametrize(("name", "given", "error", "message"), CONV_REFUSALS, ids=label)
def test_convolution_refuses(name, given, error, message):
    with pytest.raises(error, match=re.escape(message)):
        deform_conv2d(**{**GOOD, name: given})


ATTENTION = Attention(levels=((4, 3), (2, 2)))
SHAPES, STARTS = levels_of(ATTENTION.levels)
GOOD_ATTENTION = {**ATTENTION.tensors(torch.float32), "spatial_shapes": SHAPES, "level_start_index": STARTS}
LOCATIONS, WEIGHTS = GOOD_ATTENTION["sampling_locations"], GOOD_ATTENTION["attention_weights"]

ATTENTION_REFUSALS = [
    ("value", None, TypeError, "value is a NoneType; expected a tensor of shape (B, N, M, D)"),
    ("value", torch.ones(2, 16, 24), ValueError, "value has shape (2, 16, 24); expected (B, N, M, D)"),
    ("value", torch.ones(2, 16, 3, 0), ValueError, "expected D of at least 1"),
    ("value", torch.ones(2, 16, 0, 8), ValueError, "expected M of at least 1"),
    ("value", torch.ones(2, 16, 3, 8).int(), TypeError, "value"),
    ("value", torch.ones(2, 15, 3, 8), ValueError, "value has N = 15 tokens; expected 16"),
    ("value", torch.ones(2, 17, 3, 8), ValueError, "value has N = 17 tokens; expected 16"),
    (
        "spatial_shapes",
        SHAPES.float(),
        TypeError,
        "spatial_shapes of shape (2, 2) has dtype torch.float32; expected int64",
    ),
    ("spatial_shapes", [(4, 3), (2, 2)], TypeError, "spatial_shapes is a list"),
    ("spatial_shapes", SHAPES.flatten(), ValueError, "spatial_shapes has shape (4,); expected (L, 2)"),
    (
        "spatial_shapes",
        torch.ones(2, 3).long(),
        ValueError,
        "spatial_shapes has shape (2, 3); expected (2, 2) = (L, 2)",
    ),
    ("spatial_shapes", SHAPES[:0], ValueError, "expected L of at least 1"),
    ("spatial_shapes", torch.tensor([(4, 4), (2, 0)]), ValueError, "spatial_shapes[1] is (2, 0)"),
    ("spatial_shapes", torch.tensor([(-4, -3), (2, 2)]), ValueError, "spatial_shapes[0] is (-4, -3)"),
    ("level_start_index", STARTS.int(), TypeError, "level_start_index"),
    ("level_start_index", STARTS[:1], ValueError, "level_start_index has shape (1,); expected (2,) = (L)"),
    ("level_start_index", torch.tensor([0, 11]), ValueError, "level_start_index[1] is 11; expected 12"),
    ("level_start_index", torch.tensor([1, 12]), ValueError, "level_start_index[0] is 1; expected 0"),
    ("level_start_index", torch.tensor([0, 10**12]), ValueError, "level_start_index[1] is 1000000000000"),
    (
        "sampling_locations",
        LOCATIONS[:, :, :, :1],
        ValueError,
        "sampling_locations has shape (2, 7, 3, 1, 2, 2); expected (2, 7, 3, 2, 2, 2)",
    ),
    ("sampling_locations", LOCATIONS[..., :1], ValueError, "sampling_locations"),
    ("sampling_locations", LOCATIONS[..., :0, :], ValueError, "expected P of at least 1"),
    ("sampling_locations", LOCATIONS[:1], ValueError, "sampling_locations has shape (1,"),
    ("sampling_locations", LOCATIONS.double(), TypeError, "expected float32 (that of value)"),
    ("sampling_locations", LOCATIONS.to(META), ValueError, "sampling_locations is on meta; expected cpu"),
    (
        "attention_weights",
        WEIGHTS[:, :, :2],
        ValueError,
        "attention_weights has shape (2, 7, 2, 2, 2); expected (2, 7, 3, 2, 2)",
    ),
    (
        "attention_weights",
        WEIGHTS.flatten(3),
        ValueError,
        "attention_weights has shape (2, 7, 3, 4); expected (B, Q, M, L, P)",
    ),
    ("attention_weights", WEIGHTS.half(), TypeError, "attention_weights"),
    ("backend", "fast", ValueError, "backend is 'fast'"),
]


@pytest.mark.parametrize(("name", "given", "error", "message"), ATTENTION_REFUSALS, ids=label)
def test_attention_refuses(name, given, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ms_deform_attn(**{**GOOD_ATTENTION, name: given})


HALF_CONV = Conv(exact=True).tensors(torch.bfloat16)
HALF_ATTENTION = ATTENTION.tensors(torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("offset", torch.float64, "has dtype torch.float64; expected bfloat16, float32 (that of input or float32)"),
        ("offset", torch.float16, "has dtype torch.float16; expected bfloat16, float32 (that of input or float32)"),
        ("offset", torch.bfloat16, "mask of shape (2, 9, 7, 6) has dtype torch.float32; expected bfloat16 (that of of"),
        ("mask", torch.bfloat16, "mask of shape (2, 9, 7, 6) has dtype torch.bfloat16; expected float32 (that of off"),
        ("weight", torch.float32, "weight of shape (6, 8, 3, 3) has dtype torch.float32; expected bfloat16 (that of i"),
        ("bias", torch.float32, "bias of shape (6,) has dtype torch.float32; expected bfloat16 (that of input)"),
    ],
    ids=label,
)
def test_beside_halves_only_offset_and_mask_may_be_float32_and_both_must_agree(name, dtype, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        deform_conv2d(**{**HALF_CONV, name: HALF_CONV[name].to(dtype)}, padding=1)


def test_attention_weights_have_the_dtype_of_the_locations():
    value, locations, weights = HALF_ATTENTION.values()
    message = "attention_weights of shape (2, 7, 3, 2, 2) has dtype torch.bfloat16; expected float32 (that of sampling"
    with pytest.raises(TypeError, match=re.escape(message)):
        ms_deform_attn(value, SHAPES, STARTS, locations, weights.bfloat16())


def test_the_good_arguments_are_accepted():
    assert deform_conv2d(**GOOD).shape == (2, 6, Ho, Wo)
    assert ms_deform_attn(**GOOD_ATTENTION).shape == (2, 7, 3 * 8)


def test_levels_that_change_in_place_are_checked_again():
    shapes = SHAPES.clone()
    ms_deform_attn(**{**GOOD_ATTENTION, "spatial_shapes": shapes})
    shapes[0, 0] = 400
    with pytest.raises(ValueError, match=r"level_start_index\[1\] is 12; expected 1200"):
        ms_deform_attn(**{**GOOD_ATTENTION, "spatial_shapes": shapes})


def test_levels_that_change_unseen_by_pytorch_are_checked_again():
    """NumPy counts no versions. A kernel that trusted these levels would read far outside the value."""
    array = SHAPES.numpy().copy()
    shapes = torch.from_numpy(array)
    ms_deform_attn(**{**GOOD_ATTENTION, "spatial_shapes": shapes})
    array[:] = 100_000
    with pytest.raises(ValueError, match="level_start_index"):
        ms_deform_attn(**{**GOOD_ATTENTION, "spatial_shapes": shapes})


def test_forward_mode_derivatives_are_refused():
    def of_input(input):
        return deform_conv2d(**{**GOOD, "input": input})

    with pytest.raises(TypeError, match="input has a forward-mode tangent"):
        torch.func.jvp(of_input, (GOOD["input"],), (GOOD["input"],))


def test_a_backend_that_is_not_built_says_why(monkeypatch):
    from dyhead_lab.ops import native

    monkeypatch.setattr(native, "why_missing", lambda kind, device: f"no {kind} here")
    with pytest.raises(RuntimeError, match="backend 'emulated' is missing: no emulated here"):
        deform_conv2d(**GOOD, backend="emulated")
