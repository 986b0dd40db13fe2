"""Every case against every backend present: the answer and all gradients are those of the formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import draw, load

from .cases import (
    BACKENDS,
    LAYOUTS,
    TOLERANCE,
    Attention,
    Conv,
    answers,
    assert_same,
    device_of,
    distance,
    levels_of,
)

CASES = {
    "conv": Conv(),
    "conv, version 1": Conv(masked=False),
    "conv, groups": Conv(C=12, Co=9, groups=3, G=2),
    "conv, a group per channel": Conv(C=6, Co=6, groups=6, G=6),
    "conv, steps": Conv(size=(9, 8), kernel=(3, 2), stride=(2, 1), padding=(0, 2), dilation=(2, 1)),
    "conv, integer positions": Conv(places="integer"),
    "conv, far outside": Conv(places="far"),
    "conv, one pixel": Conv(size=(1, 1), kernel=(1, 1), padding=(0, 0)),
    "conv, one tap of one image": Conv(B=1, kernel=(1, 1), padding=(0, 0)),
    "conv, channels-last": Conv(layout="channels_last", C=5, Co=3),
    "conv, gaps in memory": Conv(layout="spread"),
    "conv, exact offsets": Conv(exact=True, G=2),
    "conv, exact offsets, fast kernels": Conv(exact=True, C=32, Co=8),
    "conv, fast kernels": Conv(C=32, Co=8),
    "conv, fast kernels, one tap": Conv(C=32, Co=8, kernel=(1, 1), padding=(0, 0)),
    "conv, fast kernels, offset groups": Conv(
        B=1, C=64, Co=40, G=2, size=(5, 4), stride=(2, 1), layout="channels_last"
    ),
    "conv, fast kernels, many tiles": Conv(
        B=1, C=288, Co=264, size=(9, 8), kernel=(1, 2), padding=(0, 1), masked=False
    ),
    "conv, fast kernels, many pixels": Conv(B=1, C=32, Co=8, size=(128, 128), kernel=(1, 1), padding=(0, 0)),
    "conv, exact offsets, version 1": Conv(exact=True, masked=False),
    "conv, empty batch": Conv(B=0),
    "attention": Attention(),
    "attention, as in the paper": Attention(B=1, levels=((8, 7), (4, 4), (2, 2), (1, 1)), M=8, P=4, D=32),
    "attention, odd channels": Attention(D=5),
    "attention, one channel": Attention(M=1, D=1, P=1),
    "attention, many levels": Attention(levels=tuple((n, 9 - n) for n in range(1, 9)), P=3),
    "attention, on the border": Attention(places="border", Q=20),
    "attention, far outside": Attention(places="far"),
    "attention, gaps in memory": Attention(layout="spread"),
    "attention, many queries": Attention(Q=60, M=2),
    "attention, empty batch": Attention(B=0),
    "attention, no queries": Attention(Q=0),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_gives_what_the_formula_gives(backend, name, dtype):
    case = CASES[name]
    tensors = case.tensors(dtype, device_of(backend))
    assert_same(answers(case, tensors, backend), answers(case, tensors, "formula"), TOLERANCE[dtype])


OWN = ["conv", "conv, channels-last", "conv, one tap of one image", "attention", "attention, many queries"]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_belong_to_the_caller_alone(backend, name):
    """So ``nn.ReLU(inplace=True)`` may follow, and what is kept or saved is no larger than it looks."""
    case = CASES[name]
    tensors = case.tensors(torch.float32, device_of(backend))
    wanted = answers(case, tensors, backend)["out"].relu()
    leaves = {n: t.detach().requires_grad_(t.is_floating_point()) for n, t in tensors.items()}
    out = case.run(leaves, backend).relu_()
    assert_same({"out": out.detach()}, {"out": wanted}, 1e-6)
    out.sum().backward()
    own = [out, *(leaf.grad for leaf in leaves.values() if leaf.grad is not None)]
    assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in own)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_runs_in_inference_mode(backend, name):
    case = CASES[name]
    tensors = case.tensors(torch.float32, device_of(backend))
    with torch.inference_mode():
        out = case.run({n: t.clone() for n, t in tensors.items()}, backend)
    assert_same({"out": out}, {"out": case.run(tensors, backend)}, 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_of_a_backend_agrees_with_the_published_operator(backend):
    expected, _ = load("ms_deform_attn_op")
    case = Attention(levels=tuple(map(tuple, expected["spatial_shapes"].tolist())))
    N = int(levels_of(case.levels)[0].prod(1).sum())
    tensors = {
        "value": torch.from_numpy(draw("value", (2, N, 8, 32), 7)),
        "sampling_locations": torch.from_numpy(draw("loc", (2, 50, 8, 4, 4, 2), 7) * 0.35 + 0.5),
        "attention_weights": torch.from_numpy(draw("att", (2, 50, 8, 16), 7)).softmax(-1).view(2, 50, 8, 4, 4),
    }
    out = case.run({name: t.to(device_of(backend)) for name, t in tensors.items()}, backend)
    # Float32 against float32: 1e-5 as for every backend.
    assert distance(out.cpu(), torch.from_numpy(expected["out"])) <= 1e-5


side = st.integers(1, 9)
pairs = lambda least, most: st.tuples(st.integers(least, most), st.integers(least, most))  # noqa: E731


@st.composite
def convs(draw_from):
    groups, G = draw_from(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 3), (3, 3)]))
    # The fast kernels want one group, whole steps of 16 or 32 channels, and outputs in eights.
    fast = groups == 1 and draw_from(st.booleans())
    kernel, dilation, padding = draw_from(pairs(1, 3)), draw_from(pairs(1, 2)), draw_from(pairs(0, 2))
    reach = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    return Conv(
        B=draw_from(st.integers(0, 2)),
        C=32 * G if fast else 6 * draw_from(st.integers(1, 2)),
        Co=(8 if fast else groups) * draw_from(st.integers(1, 3)),
        size=tuple(max(1, n) + draw_from(st.integers(0, 6)) for n in reach),
        kernel=kernel,
        stride=draw_from(pairs(1, 3)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        G=G,
        masked=draw_from(st.booleans()),
        places=draw_from(st.sampled_from(["between", "integer", "far"])),
        layout=draw_from(st.sampled_from(list(LAYOUTS))),
        seed=draw_from(st.integers(0, 1000)),
    )


attentions = st.builds(
    Attention,
    B=st.integers(0, 2),
    levels=st.lists(st.tuples(side, side), min_size=1, max_size=5).map(tuple),
    Q=st.integers(0, 9),
    M=st.integers(1, 4),
    P=st.integers(1, 4),
    D=st.integers(1, 9),
    places=st.sampled_from(["between", "border", "far"]),
    layout=st.sampled_from(list(LAYOUTS)),
    seed=st.integers(0, 1000),
)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=st.one_of(convs(), attentions), dtype=st.sampled_from([torch.float64, torch.float32]))
def test_a_backend_gives_what_the_formula_gives_for_drawn_shapes(backend, case, dtype):
    tensors = case.tensors(dtype, device_of(backend))
    assert_same(answers(case, tensors, backend), answers(case, tensors, "formula"), TOLERANCE[dtype])
