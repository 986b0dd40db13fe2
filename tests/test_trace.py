"""A trace keeps what modules emit, under their paths, in order, and only while it is open."""

import re

import pytest
import torch
from torch import nn

from dyhead_lab.trace import NAMES, describe, emit, is_traced, trace


class Gate(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        weights = self.factor * x.mean(dim=(2, 3))
        emit(self, scale_weights=weights)
        return x * weights[..., None, None]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.second = Gate(2.0)  # registered before the module that runs first
        self.first = Gate(3.0)

    def forward(self, x):
        y = self.second(self.first(x))
        emit(self, block_output=y)
        return y


@pytest.fixture
def x():
    return torch.ones(1, 2, 3, 3)


def test_what_was_emitted_is_found_under_name_and_path(x):
    model = Block()
    with trace(model) as t:
        y = model(x)
    assert t.names() == ["block_output", "scale_weights"]
    assert len(t) == 3
    assert torch.equal(t["", "block_output"][0], y)
    assert torch.equal(t["first", "scale_weights"][0], torch.full((1, 2), 3.0))
    assert torch.equal(t["second", "scale_weights"][0], torch.full((1, 2), 6.0))


def test_find_goes_in_model_order(x):
    model = Block()
    with trace(model) as t:
        model(x)
    assert [path for path, _ in t.find("scale_weights")] == ["second", "first"]


def test_a_module_that_runs_twice_is_kept_twice_in_call_order(x):
    model = Gate()
    with trace(model) as t:
        model(x)
        model(2 * x)
    assert [weights.mean().item() for weights in t["", "scale_weights"]] == [1.0, 2.0]
    assert [weights.mean().item() for _, weights in t.find("scale_weights")] == [1.0, 2.0]


def test_kept_tensors_are_detached(x):
    model = Gate()
    with trace(model) as t:
        y = model(x.requires_grad_())
    assert y.requires_grad
    assert not t["", "scale_weights"][0].requires_grad


def test_the_model_computes_the_same_with_and_without_trace(x):
    model = Block()
    expected = model(x)
    with trace(model):
        assert torch.equal(model(x), expected)


def test_keep_decides_by_path_and_name(x):
    model = Block()
    with trace(model, keep=lambda path, name: path == "first") as t:
        model(x)
    assert t.names() == ["scale_weights"] and len(t) == 1


def test_nothing_is_kept_outside_the_block(x):
    model = Gate()
    model(x)
    with trace(model) as t:
        assert is_traced()
    model(x)
    assert len(t) == 0 and not is_traced()


def test_a_trace_ends_when_the_block_raises(x):
    with pytest.raises(RuntimeError), trace(Gate()):
        raise RuntimeError
    assert not is_traced()


def test_another_model_in_the_same_block_is_not_kept(x):
    model, other = Gate(), Gate()
    with trace(model) as t:
        other(x)
    assert len(t) == 0


def test_two_open_traces_both_see(x):
    model = Block()
    with trace(model) as outer, trace(model.first) as inner:
        model(x)
    assert len(outer) == 3
    assert torch.equal(inner["", "scale_weights"][0], outer["first", "scale_weights"][0])
    assert len(inner) == 1


def test_an_inner_trace_of_the_same_model_ends_alone(x):
    model = Gate()
    with trace(model) as outer:
        with trace(model) as inner:
            model(x)
        model(x)
    assert (len(outer), len(inner)) == (2, 1)


def test_a_name_without_documentation_is_kept_and_found():
    module = nn.Identity()
    with trace(module) as t:
        emit(module, secret=torch.ones(1))
    assert t.names() == ["secret"] and [tensor.item() for _, tensor in t.find("secret")] == [1.0]


def test_a_name_of_ones_own_can_be_documented(monkeypatch):
    monkeypatch.setattr("dyhead_lab.trace.NAMES", dict(NAMES))
    describe("row_weights", "weight of each row, (B, H)")
    describe("row_weights", "weight of each row, (B, H)")  # a file that is run twice
    with trace(nn.Identity()) as t:
        assert list(t.find("row_weights")) == []  # documented, so it is no mistake to look for it
    with pytest.raises(ValueError, match=r"'row_weights' means 'weight of each row, \(B, H\)' already"):
        describe("row_weights", "something else")
    with pytest.raises(ValueError, match="meaning: expected words"):
        describe("other", " ")


def test_unknown_keys_tell_what_there_is(x):
    model = Gate()
    with trace(model) as t:
        model(x)
    with pytest.raises(KeyError, match="unknown trace name 'scales'"):
        list(t.find("scales"))
    with pytest.raises(KeyError, match="scale_weights"):
        t["first", "scale_weights"]


def test_every_name_is_documented_with_a_shape():
    assert all(re.search(r"\([A-Z0-9][^)]*,", meaning) for meaning in NAMES.values())


def test_emit_does_not_break_the_graph_of_a_compiled_model(x):
    model = Block()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    expected = model(x)
    assert torch.equal(compiled(x), expected)
    with trace(model):
        assert torch.equal(compiled(x), expected)


class Lists(nn.Module):
    def forward(self, x):
        emit(self, levels=[x])
        return x


def test_what_is_no_tensor_is_named_where_somebody_looks(x):
    Lists()(x)  # nobody does
    model = Lists()
    with trace(model), pytest.raises(TypeError, match="emit: expected a tensor for 'levels' of '', got list"):
        model(x)
    with trace(model, keep=lambda path, name: name != "levels"):
        model(x)
