"""Two processes with half a batch each train as one process with the whole: losses, weights, numbers, files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dyhead_lab.detectors.detr.configured import deformable_detr, detr, sparse_detr
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.retinanet import retinanet
from dyhead_lab.detectors.rcnn.faster_rcnn import faster_rcnn
from dyhead_lab.errors import UserError
from dyhead_lab.training.checkpoint import CHECKPOINT, read

from .tiny import engine_of, make_steps, quick_recipe
from .two_processes import ACCUMULATING, SETTINGS, normalised_parts, set_losses

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two(small_pictures, tmp_path_factory):
    """The folder of a run by two processes on the CPU, and what each of them saw."""
    out = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    worker = ["-m", "tests.training.two_processes", str(small_pictures), str(out)]
    settings = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launcher, *worker], env={**os.environ, **settings, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out, [torch.load(out / f"seen_{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def one(small_pictures, tmp_path_factory):
    """The same steps in one process: its engine and its losses."""
    engine = engine_of(quick_recipe(**SETTINGS), small_pictures, tmp_path_factory.mktemp("one"))
    return engine, make_steps(engine, 3)


def test_losses_are_those_of_the_whole_batch(one, two):
    """To 1e-5: sums in another order, in float32."""
    for seen in two[1]:
        for here, there in zip(one[1], seen["losses"], strict=True):
            assert here == pytest.approx(there, rel=1e-5)


def test_accumulation_is_shared_out_too(two, small_pictures, tmp_path):
    """Two processes with two micro-batches of one image: one process with two of two images, to 1e-5."""
    alone = make_steps(engine_of(quick_recipe(**ACCUMULATING), small_pictures, tmp_path), 3)
    for seen in two[1]:
        for here, there in zip(alone, seen["accumulated"], strict=True):
            assert here == pytest.approx(there, rel=1e-5)


@pytest.mark.parametrize("kind", ["focal", "softmax"])
def test_set_losses_average_to_those_of_the_whole_batch(kind, two):
    """One object in all, in process 0; to 1e-5 in float32."""
    whole = set_losses(kind, [0, 1])
    first, second = (seen["set_losses"][kind] for seen in two[1])
    for name, value in whole.items():
        assert (first[name] + second[name]) / 2 == pytest.approx(value, rel=1e-5)


def test_weights_and_statistics_are_those_of_one_process(one, two):
    """To 1e-5 after three steps of SGD. (Adam would blow rounding errors of tiny gradients up to whole steps.)"""
    state = read(two[0] / "last.pt", CHECKPOINT)
    for part, mine in (("model", one[0].model), ("averaged", one[0].averaged)):
        for name, value in mine.state_dict().items():
            torch.testing.assert_close(
                state[part][name], value, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: n + text
            )


def test_every_validation_image_is_evaluated_once_and_by_all(one, two):
    here = one[0].detect(one[0].averaged.module)
    first, second = (seen["records"] for seen in two[1])
    assert first == second and len(first) == len(here) > 0
    by_image = [sorted(r["score"] for r in here if r["image_id"] == i) for i in one[0].val_set.image_ids]
    shared = [sorted(r["score"] for r in first if r["image_id"] == i) for i in one[0].val_set.image_ids]
    for mine, theirs in zip(by_image, shared, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_there_is_one_checkpoint_which_one_process_continues(one, two, small_pictures):
    assert sorted(path.name for path in two[0].glob("*.pt")) == ["last.pt", "seen_0.pt", "seen_1.pt"]
    continued = engine_of(quick_recipe(**SETTINGS), small_pictures, two[0])
    continued.load()
    assert continued.iteration == 3 and make_steps(continued, 1)[0]["loss"] > 0


def test_batch_norm_over_unequal_parts_is_batch_norm_over_all_pixels(two):
    """Against PyTorch's BatchNorm on all pixels in one row: outputs, gradients and statistics, in float32."""
    norm, parts = normalised_parts()
    pixels = [part.transpose(0, 1).flatten(1) for part in parts]
    x = torch.cat(pixels, 1)[None, :, :, None].requires_grad_()
    y = norm(x)
    y.pow(3).sum().backward()
    for seen in two[1]:
        for name, wanted in (("outputs", y), ("gradients", x.grad)):
            got = torch.cat([part.transpose(0, 1).flatten(1) for part in seen["norm"][name]], 1)
            torch.testing.assert_close(got, wanted.detach()[0, :, :, 0], rtol=1e-5, atol=1e-5)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(seen["norm"]["state"][name], value)


def test_a_batch_that_fails_in_one_process_is_skipped_in_both(two):
    for seen in two[1]:
        skipped, good = seen["skipped"]
        assert skipped == {} and good["loss"] > 0
    assert {path.name for path in (two[0] / "skip").iterdir()} == {"nonfinite_0_0.pt", "nonfinite_0_1.pt"}


SET = {"channels": 32, "heads": 4, "feedforward": 64, "encoder_layers": 2, "decoder_layers": 2, "queries": 10}
DENSE = {"channels": 64, "dyhead_blocks": 1, "min_size": 64, "max_size": 64}
DETECTORS = {
    "retinanet": lambda: retinanet(3, backbone="narrow", **DENSE),
    "faster_rcnn": lambda: faster_rcnn(3, backbone="narrow", box_head_width=64, **DENSE),
    "atss": lambda: atss(3, backbone="narrow", **DENSE),
    "detr": lambda: detr(3, backbone="narrow", **SET),
    "deformable_detr": lambda: deformable_detr(3, backbone="narrow", refine=True, two_stage=True, **SET),
    "sparse_detr": lambda: sparse_detr(3, backbone="narrow", rho=0.3, **SET),
}


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("objects", [0, 1])
def test_every_parameter_gets_a_gradient(name, objects):
    """With or without objects; processes that wait for each other's gradients would otherwise wait for ever."""
    model = DETECTORS[name]().train()
    boxes, labels = torch.tensor([[8.0, 8, 40, 48]])[:objects], torch.tensor([1])[:objects]
    losses = model([torch.rand(3, 64, 64)] * 2, [{"boxes": boxes, "labels": labels} for _ in range(2)])
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_batch_that_cannot_be_shared_out_is_refused(small_pictures, tmp_path):
    with pytest.raises(UserError, match=r"batch_size: expected a multiple of accumulate=3"):
        engine_of(quick_recipe(batch_size=4, accumulate=3), small_pictures, tmp_path)
