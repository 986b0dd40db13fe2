"""The operators as PyTorch sees them: opcheck, compile, export, autocast, determinism and the choice of backend."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch.library import opcheck
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from dyhead_lab.ops import backends, deform_conv2d, ms_deform_attn, registration

from .cases import BACKENDS, Attention, Conv, answers, assert_same, device_of, distance, levels_of

CONV = Conv(B=1, C=4, Co=2, size=(5, 4), groups=2, G=2)
FAST_CONV = Conv(B=1, C=32, Co=8, size=(5, 4))  # for the fast kernels
ATTENTION = Attention(B=1, levels=((3, 2), (1, 1)), Q=3, M=2, D=4)
# opcheck leaves out the backend "formula": torch.func derives its gradient, and opcheck cannot look into the wrapped
# tensors of torch.func. Schema, fake functions and autograd are the same objects for all backends.
conv_operators = torch.ops.dyhead_lab.deform_conv2d, torch.ops.dyhead_lab.deform_conv2d_backward
attention_operators = torch.ops.dyhead_lab.ms_deform_attn, torch.ops.dyhead_lab.ms_deform_attn_backward


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", [CONV, FAST_CONV], ids=["conv", "conv fast"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck_of_the_convolution(backend, case, layout, masked):
    case = replace(case, layout=layout, masked=masked)
    check_convolution(case, case.tensors(torch.float32, device_of(backend)), backend)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", [CONV, FAST_CONV], ids=["conv", "conv fast"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck_of_the_convolution_with_exact_offsets(backend, case, dtype, masked):
    case = replace(case, exact=True, masked=masked)
    check_convolution(case, case.tensors(dtype, device_of(backend)), backend)


def check_convolution(case, tensors, backend):
    grad = case.run(tensors, backend)
    arguments = tensors["input"], tensors["offset"], tensors["weight"], tensors.get("mask")
    steps = case.stride, case.padding, case.dilation, case.groups, case.G
    opcheck(conv_operators[1], (grad, *arguments, *steps, backend))
    leaves = tuple(None if t is None else t.requires_grad_() for t in (*arguments, tensors.get("bias")))
    opcheck(conv_operators[0], (*leaves, *steps, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck_of_the_attention(backend):
    value, locations, weights = ATTENTION.tensors(torch.float32, device_of(backend)).values()
    levels = levels_of(ATTENTION.levels)
    grad = ms_deform_attn(value, *levels, locations, weights, backend)
    opcheck(attention_operators[1], (grad, value, *levels, locations, weights, backend))
    leaves = [t.requires_grad_() for t in (value, locations, weights)]
    opcheck(attention_operators[0], (leaves[0], *levels, *leaves[1:], backend))


@pytest.mark.parametrize("case", [CONV, ATTENTION], ids=["conv", "attention"])
def test_a_second_derivative_is_refused(case):
    leaves = {name: t.requires_grad_() for name, t in case.tensors(torch.float32).items()}
    first = torch.autograd.grad(case.run(leaves, None).pow(2).sum(), list(leaves.values()), create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        first[0].sum().backward()


def test_what_is_not_asked_for_is_not_recorded():
    tensors = CONV.tensors(torch.float32)
    assert not CONV.run(tensors, None).requires_grad
    with torch.no_grad():
        assert not CONV.run({name: t.requires_grad_() for name, t in tensors.items()}, None).requires_grad


class Compiled:
    """A case that runs through the compiler, as one graph."""

    def __init__(self, case):
        self.run = torch.compile(case.run, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("case", [CONV, ATTENTION], ids=["conv", "attention"])
def test_compiled_code_gives_the_same_answer(case):
    tensors = case.tensors(torch.float32)
    # The same kernels on the same numbers: bit-equal.
    assert_same(answers(Compiled(case), tensors, None), answers(case, tensors, None), 0.0)


@pytest.mark.parametrize("backend", [None, "numba"])
@pytest.mark.parametrize("case", [CONV, ATTENTION], ids=["conv", "attention"])
def test_exported_programs_survive_a_round_trip(case, backend, tmp_path):
    tensors = case.tensors(torch.float32)

    class Model(torch.nn.Module):
        def forward(self, tensors):
            return case.run(tensors, backend)

    program = torch.export.export(Model(), (tensors,))
    ours = [node for node in program.graph.nodes if "dyhead_lab" in str(node.target)]
    assert len(ours) == (0 if backend is None else 1)  # no backend named: the formula in PyTorch's own operators
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    # The named backend is the same kernel, so bit-equal. The formula sums tens of float32 products in another order.
    assert distance(loaded(tensors), case.run(tensors, "numba")) <= (1e-6 if backend is None else 0)


@pytest.mark.parametrize("backend", [*BACKENDS, "formula"])
def test_autocast_lowers_the_convolution(backend):
    tensors = CONV.tensors(torch.float32, device_of(backend))
    low = {name: t if name in ("offset", "mask") else t.bfloat16() for name, t in tensors.items()}
    with torch.autocast(device_of(backend), torch.bfloat16):
        got = answers(CONV, tensors, backend)
        mixed = CONV.run({**tensors, "input": low["input"]}, backend)
        halves = CONV.run({**tensors, **{name: tensors[name].bfloat16() for name in ("offset", "mask")}}, backend)
    expected = {name: t.to(torch.float32) for name, t in answers(CONV, low, backend).items()}
    assert got["out"].dtype == mixed.dtype == halves.dtype == torch.bfloat16
    assert torch.equal(got["out"], mixed)
    # Gradients arrive in float32, those of input, weight and bias rounded to bfloat16 on their way: bit-equal to those
    # of bfloat16 arguments beside exact offsets and masks.
    assert_same({**got, "out": got["out"].float()}, expected, 0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", [*BACKENDS, "formula"])
def test_autocast_keeps_offsets_and_masks_exact(backend, dtype):
    """Rounded to bfloat16 they would put their own gradient off by 12 %."""
    case = Conv(B=1, C=32, Co=32, size=(12, 12))
    tensors = case.tensors(torch.float32, device_of(backend))
    exact = answers(case, tensors, backend)
    with torch.autocast(device_of(backend), dtype):
        got = answers(case, tensors, backend)
    # Features and weights have 8 bits of mantissa in bfloat16, 2^-9 of rounding: 0.4 %. float16 has three bits more.
    # With offsets in bfloat16 the output would be off by more than that too.
    for name in ("out", "grad_offset", "grad_mask"):
        assert got[name].dtype == (dtype if name == "out" else torch.float32)
        assert distance(got[name], exact[name]) < (4e-3 if dtype == torch.bfloat16 else 5e-4), name


@pytest.mark.parametrize("case", [CONV, ATTENTION], ids=["conv", "attention"])
def test_compiled_code_under_autocast_gives_the_same_answer(case):
    tensors = case.tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(answers(Compiled(case), tensors, None), answers(case, tensors, None), 0.0)


@pytest.mark.parametrize("backend", [*BACKENDS, "formula"])
def test_autocast_lowers_the_value_and_keeps_locations_exact(backend):
    tensors = ATTENTION.tensors(torch.float32, device_of(backend))
    with torch.autocast(device_of(backend), torch.bfloat16):
        got = ATTENTION.run(tensors, backend)
        rounded = ATTENTION.run({**tensors, "value": tensors["value"].bfloat16()}, backend)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, rounded)


def test_autocast_leaves_float64_alone():
    tensors = CONV.tensors(torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(CONV.run(tensors, None), CONV.run(tensors, "numba"))
        assert CONV.run(tensors, None).dtype == torch.float64


DETERMINISTIC = {
    "conv": Conv(places="integer", B=3),
    "conv fast": Conv(places="integer", B=1, C=32, Co=8),
    "attention": Attention(Q=40, B=1),
}


@pytest.mark.parametrize("case", DETERMINISTIC.values(), ids=DETERMINISTIC)
@pytest.mark.parametrize("backend", BACKENDS)
def test_deterministic_mode_gives_bit_equal_gradients(backend, case):
    tensors = case.tensors(torch.float32, device_of(backend))
    torch.use_deterministic_algorithms(True)
    try:
        first = answers(case, tensors, backend)
        for _ in range(19):
            assert_same(answers(case, tensors, backend), first, 0.0)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_convolution_keeps_channels_last():
    case = Conv(layout="channels_last")
    tensors = case.tensors(torch.float32)
    tensors["input"].requires_grad_()
    out = case.run(tensors, None)
    out.sum().backward()
    assert out.is_contiguous(memory_format=torch.channels_last) and not out.is_contiguous()
    assert tensors["input"].grad.is_contiguous(memory_format=torch.channels_last)


def test_the_device_chooses_the_backend(monkeypatch):
    assert backends.choose(None, torch.device("cpu")) == "numba"
    monkeypatch.setattr(backends.native, "why_missing", lambda kind, device: None)
    assert backends.choose(None, torch.device("cuda")) == "cuda"


def test_cuda_kernels_that_cannot_run_are_told_once_for_the_gpu_that_the_tensors_are_on(monkeypatch):
    problems = {0: None, 1: "no code for GPU 1"}
    monkeypatch.setattr(backends.native, "why_missing", lambda kind, device: problems[device])
    backends._warn_of_missing_kernels.cache_clear()
    assert backends.choose(None, torch.device("cuda", 0)) == "cuda"
    with pytest.warns(UserWarning, match=r"the CUDA kernels cannot run \(no code for GPU 1\); the slow formula"):
        assert backends.choose(None, torch.device("cuda", 1)) == "formula"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends.choose(None, torch.device("cuda", 1)) == "formula"
    with pytest.raises(RuntimeError, match="backend 'cuda' is missing: no code for GPU 1"):
        backends.choose("cuda", torch.device("cuda", 1))


def test_arguments_in_torchvision_order_mean_the_same():
    t = CONV.tensors(torch.float64)
    got = deform_conv2d(t["input"], t["offset"], t["weight"], t["bias"], 1, 1, 1, t["mask"])
    assert torch.equal(got, CONV.run(t, None))


class Seen(TorchDispatchMode):
    """Notes the operators that pass by."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.names.append(operator.name())
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize(("case", "name"), [(CONV, "deform_conv2d"), (ATTENTION, "ms_deform_attn")])
def test_who_listens_sees_the_operator_and_nobody_else_waits_for_it(case, name):
    """Ordinary calls do without PyTorch's dispatcher; modes and the profiler are told as ever."""
    tensors = case.tensors(torch.float32)
    expected = case.run(tensors, None)
    with Seen() as seen:
        assert torch.equal(case.run(tensors, None), expected)
    assert f"dyhead_lab::{name}" in seen.names
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        case.run(tensors, None)
    assert f"dyhead_lab::{name}" in {event.key for event in profiled.key_averages()}
    first = next(iter(tensors))
    with pytest.raises(RuntimeError, match="setup_context"):  # function transforms are refused, not passed by
        torch.func.grad(lambda t: case.run({**tensors, first: t}, None).sum())(tensors[first])
    meta = {key: t.to("meta") for key, t in tensors.items()}
    assert case.run(meta, "formula").shape == expected.shape
    with torch.inference_mode():
        assert torch.equal(case.run(tensors, None), expected)


def test_a_pytorch_without_the_private_names_goes_through_the_dispatcher(monkeypatch):
    monkeypatch.delattr(torch._C, "_len_torch_dispatch_stack")
    x = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    weight, offset = torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 4, 4)
    assert not registration._is_ordinary((x, offset, weight))
    # one rounding of float32 for each of the two channels
    torch.testing.assert_close(deform_conv2d(x, offset, weight), x.sum(1, keepdim=True), rtol=1e-6, atol=1e-6)
