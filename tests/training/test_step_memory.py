"""Memory: blocks that forget give the same gradients from fewer activations; compiled backbones too."""

import pytest
import torch
from torch import nn

from dyhead_lab.detectors.detr.configured import deformable_detr
from dyhead_lab.errors import UserError
from dyhead_lab.training.step_memory import ActivationMeter, StepMemory, checkpoint_activations, peak_memory

from .tiny import engine_of, frozen_recipe, make_steps, quick_recipe


def gradients(model, seed=0):
    """Gradients of one step on two images, the buffers after it, and what autograd kept."""
    torch.manual_seed(seed)
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    target = {"boxes": torch.tensor([[8.0, 8, 40, 48]]), "labels": torch.tensor([1])}
    with ActivationMeter(model) as meter:
        loss = sum(model(images, [target, target]).values())
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found, dict(model.named_buffers()), meter.bytes


WITH_DYHEAD = {"model.dyhead_blocks": 2, "model.image_size": 64}
SMALL = {"channels": 32, "heads": 4, "feedforward": 64, "encoder_layers": 2, "decoder_layers": 2, "queries": 10}
MODELS = {
    "batch norm and a Dynamic Head": lambda: quick_recipe(**WITH_DYHEAD).build(3),
    "frozen norms": lambda: frozen_recipe().build(3),
    "dropout and attention": lambda: deformable_detr(3, backbone="narrow", **SMALL),
}


@pytest.mark.parametrize("name", MODELS)
def test_blocks_that_forget_give_the_same_gradients(name):
    """Bit for bit on one machine, dropout included; running statistics count the batch once."""
    results = []
    for forget in (False, True):
        torch.manual_seed(0)
        model = MODELS[name]().train()
        results.append(gradients(checkpoint_activations(model) if forget else model))
    (wanted, buffers, kept), (got, buffers_again, kept_again) = results
    assert wanted.keys() == got.keys() and kept_again < 0.8 * kept
    for parameter, value in wanted.items():
        assert torch.equal(got[parameter], value), parameter
    for buffer, value in buffers.items():
        assert torch.equal(buffers_again[buffer], value), buffer


def test_forgetting_survives_a_run(small_pictures, tmp_path):
    """The averaged copy computes with its own weights, and checkpoints are those of any other run."""
    plain, forgetting = (
        engine_of(quick_recipe(activation_checkpointing=on), small_pictures, tmp_path) for on in (False, True)
    )
    assert make_steps(plain, 2) == make_steps(forgetting, 2)
    assert plain.averaged.state_dict().keys() == forgetting.averaged.state_dict().keys()
    assert plain.detect(plain.averaged.module) == forgetting.detect(forgetting.averaged.module)


def test_a_detector_without_blocks_is_refused():
    with pytest.raises(UserError, match="no blocks"):
        checkpoint_activations(nn.Linear(2, 2))


def test_the_meter_counts_what_autograd_keeps_once():
    """y = relu(x W): the input for W's gradient and the output for relu's; W itself is no activation."""
    layer = nn.Linear(10, 20, bias=False)
    x = torch.rand(5, 10)
    with ActivationMeter(layer) as meter:
        y = layer(x).relu()
        y = y * y  # y twice, but one storage
    assert meter.bytes == 4 * (5 * 10 + 5 * 20)


def test_the_first_step_reports_its_memory(small_pictures, tmp_path):
    engine = engine_of(quick_recipe(), small_pictures, tmp_path)
    assert engine.memory is None
    make_steps(engine, 1)
    first = engine.memory
    assert 0 < first.activations < first.peak <= peak_memory(engine.device)
    make_steps(engine, 1)
    assert engine.memory.activations == first.activations
    assert str(StepMemory(3 * 2**30, 41 * 2**20)) == "activations 3.0 GiB, peak 41 MiB"


def test_a_compiled_backbone_trains_the_same(small_pictures, tmp_path, monkeypatch):
    """Traced by PyTorch, but without its code generator, which takes minutes here; to 1e-4 in float32."""
    compile_module = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **options: compile_module(self, backend="aot_eager", **options)
    )
    plain, compiled = (engine_of(quick_recipe(compile=on), small_pictures, tmp_path) for on in (False, True))
    for here, there in zip(make_steps(plain, 2), make_steps(compiled, 2), strict=True):
        assert here == pytest.approx(there, rel=1e-4)
    assert plain.averaged.state_dict().keys() == compiled.averaged.state_dict().keys()


@pytest.mark.slow
def test_the_default_compiler_trains_the_same(small_pictures, tmp_path):
    """With PyTorch's own code generator, a Dynamic Head in the backbone; to 1e-4 in float32.

    The first step compiles: minutes on one core.
    """
    torch.compiler.reset()  # what another test has compiled makes sizes unknowns, on which the code generator fails
    settings = {"model.dyhead_blocks": 1, "model.image_size": 64}
    plain, compiled = (
        engine_of(quick_recipe(compile=on, **settings), small_pictures, tmp_path) for on in (False, True)
    )
    for here, there in zip(make_steps(plain, 3), make_steps(compiled, 3), strict=True):
        assert here == pytest.approx(there, rel=1e-4)
