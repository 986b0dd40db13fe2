"""Level tensors are read on the CPU, and on a GPU once: a CUDA graph can be captured. The GPU here is simulated."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dyhead_lab.ops import levels

from .cases import BACKENDS, Attention, device_of, levels_of


class OnGpu:
    """A level tensor that lies on a GPU, and counts how often somebody waits for it."""

    is_cuda = True

    def __init__(self, numbers):
        self._numbers, self._version, self.reads = numbers, 0, 0

    def is_inference(self):
        return False

    def cpu(self):
        self.reads += 1
        return self._numbers


@pytest.fixture
def capturing(monkeypatch):
    """Call it with whether a CUDA graph is being captured."""

    def simulate(answer):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: answer)

    simulate(False)
    return simulate


SHAPES, STARTS = levels_of(((4, 3), (2, 2)))


def test_levels_on_a_gpu_are_read_once(capturing):
    reader, shapes, starts = levels.Levels(), OnGpu(SHAPES), OnGpu(STARTS)
    for _ in range(3):
        assert [t.tolist() for t in reader.read(shapes, starts, 16)] == [SHAPES.tolist(), STARTS.tolist()]
    assert (shapes.reads, starts.reads) == (1, 1)
    shapes._version += 1  # somebody wrote into it
    reader.read(shapes, starts, 16)
    assert shapes.reads == 2
    reader.read(OnGpu(SHAPES), starts, 16)  # another tensor
    assert starts.reads == 3


def test_levels_that_were_read_before_are_there_in_a_capture(capturing):
    reader, shapes, starts = levels.Levels(), OnGpu(SHAPES), OnGpu(STARTS)
    reader.read(shapes, starts, 16)
    capturing(True)
    reader.read(shapes, starts, 16)
    assert shapes.reads == 1
    with pytest.raises(RuntimeError, match=r"forbids\. Leave them on the CPU, or run the model once before"):
        reader.read(OnGpu(SHAPES), starts, 16)
    reader.read(SHAPES, STARTS, 16)  # on the CPU: nobody waits


def test_levels_on_a_gpu_are_checked(capturing):
    with pytest.raises(ValueError, match="value has N = 15 tokens; expected 16"):
        levels.Levels().read(OnGpu(SHAPES), OnGpu(STARTS), 15)


class Operators(TorchDispatchMode):
    """Names of the operators that PyTorch is asked for."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operator, types, arguments=(), settings=None):
        self.seen.add(operator.overloadpacket.__name__)
        return operator(*arguments, **(settings or {}))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in_a_call_reads_numbers_or_moves_levels(backend):
    """What would make a CPU wait for its GPU, and break the capture of a CUDA graph."""
    case = Attention()
    leaves = {name: t.requires_grad_() for name, t in case.tensors(torch.float32, device_of(backend)).items()}
    with Operators() as operators:
        case.run(leaves, backend).sum().backward()
    assert {"ms_deform_attn", "ms_deform_attn_backward"} <= operators.seen
    assert operators.seen.isdisjoint({"_local_scalar_dense", "item", "nonzero", "_to_copy", "equal"})


def test_too_many_levels_are_refused_by_the_kernels():
    if "emulated" not in BACKENDS:
        pytest.skip("the emulator is not built")
    case = Attention(B=1, levels=((1, 1),) * 33, Q=1, M=1, P=1, D=4)
    with pytest.raises(RuntimeError, match="'spatial_shapes' has 33 levels; the kernels take 32 at most"):
        case.run(case.tensors(torch.float32), "emulated")
    assert case.run(case.tensors(torch.float32), "numba").shape == (1, 1, 4)
