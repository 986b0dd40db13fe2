"""Nothing between a call and its kernels waits for a GPU, which the capture of a CUDA graph forbids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from dyhead_lab.ops.bench import measure

from .cases import BACKENDS, Attention, Conv, answers, levels_of

CSRC = Path(__file__).parents[2] / "csrc"
CASES = {
    "conv, fast": Conv(C=32, Co=8),
    "conv, by columns": Conv(),
    "conv, channels-last, exact offsets": Conv(C=32, Co=8, exact=True, layout="channels_last"),
    "attention": Attention(),
}
#: What brings numbers from a tensor to Python, and waits for its device.
READS = ("tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "__array__")


@pytest.fixture
def unreadable(monkeypatch):
    """Tensors of floats refuse to be read. Levels, which are integers, lie on the CPU."""

    def refusing(name):
        read = getattr(torch.Tensor, name)

        def refuse(tensor, *arguments, **settings):
            assert not tensor.is_floating_point(), f"somebody calls {name}() of a tensor that may lie on a GPU"
            return read(tensor, *arguments, **settings)

        return refuse

    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, refusing(name))


@pytest.mark.parametrize("name", CASES)
def test_no_tensor_is_read_on_the_way_to_the_kernels(name, unreadable):
    if "emulated" not in BACKENDS:
        pytest.skip("the emulator is not built")
    tensors = CASES[name].tensors(torch.float32)
    with pytest.raises(AssertionError, match="somebody calls item"):
        next(iter(tensors.values())).sum().item()
    found = answers(CASES[name], tensors, "emulated")
    assert all(grad.shape == tensors[key.removeprefix("grad_")].shape for key, grad in found.items() if key != "out")


def test_no_code_around_the_kernels_waits_or_copies_to_the_cpu():
    """The empty kernel, by which a GPU is tried once before all else, is waited for."""
    waits = re.compile("Synchronize|cudaMemcpy|cudaMalloc|cudaFree")
    sources = [path for kind in ("*.cu", "*.cuh", "*.cpp", "*.h") for path in CSRC.glob(f"*/{kind}")]
    found = {
        path.relative_to(CSRC).as_posix()
        for path in sources
        if path.parent.name != "emulator" and waits.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"common/probe.cu"}


@pytest.mark.gpu
@pytest.mark.parametrize("levels_on", ["cpu", "cuda"])
@pytest.mark.parametrize("name", CASES)
def test_a_graph_is_captured_and_replayed(name, levels_on, monkeypatch):
    """Both passes. Levels on a GPU were read in the runs before the capture."""
    if "cuda" not in BACKENDS:
        pytest.skip("no GPU")
    case = CASES[name]
    if isinstance(case, Attention):
        shapes, starts = (t.to(levels_on) for t in levels_of(case.levels))
        monkeypatch.setattr("tests.ops.cases.levels_of", lambda levels: (shapes, starts))
    leaves = {key: t.requires_grad_() for key, t in case.tensors(torch.float32, "cuda").items()}
    found: dict[str, torch.Tensor] = {}

    def both_passes():
        out = case.run(leaves, "cuda")
        grads = torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))
        found.update(zip(["out", *leaves], [out.detach(), *grads], strict=True))

    replay = measure.in_graph(both_passes)
    captured = dict(found)
    for tensor in captured.values():
        tensor.zero_()
    replay()
    torch.cuda.synchronize()
    both_passes()
    for key, tensor in captured.items():
        assert torch.allclose(tensor, found[key], rtol=1e-5, atol=1e-5), key  # atomics add in any order
