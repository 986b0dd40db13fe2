"""What a call costs the host, in calls of functions and of PyTorch's operators: whatever else the machine does."""

import cProfile
import pstats

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dyhead_lab.ops import checks

from .cases import Attention, Conv, cotangent

CASES = {"conv": Conv(B=1, C=4, Co=4, size=(3, 3)), "attention": Attention(B=1, levels=((2, 2), (1, 1)), Q=2, M=2, D=4)}
#: Functions of Python and of C in a call, forward and with backward, and a few to spare. With torch.library.custom_op,
#: and arguments that are looked at in every call, the convolution called 304 and 713, the attention 194 and 445.
MOST = {"conv": (138, 424), "attention": (110, 310)}
#: Operators of PyTorch, forward and with backward; each costs a quarter of a microsecond or more. Conversions to NumPy
#: are four of them. When the CPU path turned small images and multiplied small matrices by operators made for large
#: ones, the convolution called 73 and 240, the attention 54 and 122.
MOST_OPERATORS = {"conv": (46, 136), "attention": (37, 76)}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """For more threads the convolution's way back is cut into more pieces, and their sums are operators too."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def calls(run):
    run()  # compiles, and remembers what it accepted
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(10):
        run()
    profile.disable()
    return pstats.Stats(profile).total_calls / 10


def operators(run):
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    return sum(event.name.startswith("aten::") for event in seen.events())


@pytest.mark.parametrize("name", CASES)
def test_a_call_on_tiny_tensors_makes_few_calls(name):
    case = CASES[name]
    tensors = case.tensors(torch.float32)
    leaves = {key: t.clone().requires_grad_() for key, t in tensors.items()}
    grad = cotangent(case.run(tensors, None).shape).float()
    assert calls(lambda: case.run(tensors, None)) <= MOST[name][0]
    both = calls(lambda: torch.autograd.grad(case.run(leaves, None), list(leaves.values()), grad))
    assert both <= MOST[name][1]


@pytest.mark.parametrize("name", CASES)
def test_a_call_on_tiny_tensors_asks_for_few_operators(name):
    case = CASES[name]
    tensors = case.tensors(torch.float32)
    leaves = {key: t.clone().requires_grad_() for key, t in tensors.items()}
    grad = cotangent(case.run(tensors, None).shape).float()
    assert operators(lambda: case.run(tensors, None)) <= MOST_OPERATORS[name][0]
    both = operators(lambda: torch.autograd.grad(case.run(leaves, None), list(leaves.values()), grad))
    assert both <= MOST_OPERATORS[name][1]


@pytest.mark.parametrize("name", CASES)
def test_a_form_that_was_accepted_is_not_looked_at_again(name, monkeypatch):
    case = CASES[name]
    tensors = case.tensors(torch.float32)
    expected = case.run(tensors, None)

    def fail(*_):
        raise AssertionError("looked at again")

    monkeypatch.setattr(checks, "_tensor", fail)
    assert torch.equal(case.run(tensors, None), expected)
    with pytest.raises(AssertionError, match="looked at again"):
        case.run(case.tensors(torch.float64), None)
