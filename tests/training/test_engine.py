"""The engine's step: accumulation, precision, clipping, batches that fail, and states that it reads back."""

import itertools
import json

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.subset import fraction_of
from dyhead_lab.detectors.detr.configured import deformable_detr, detr, sparse_detr
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.rcnn.mask_rcnn import mask_rcnn
from dyhead_lab.errors import UserError
from dyhead_lab.training.checkpoint import CHECKPOINT, read, write_atomically
from dyhead_lab.training.engine import Engine
from dyhead_lab.training.nonfinite import NONFINITE
from dyhead_lab.training.recipe import Recipe

from .tiny import engine_of, frozen_recipe, make_steps, quick_recipe


def weights(engine):
    return {name: value.clone() for name, value in engine.model.state_dict().items()}


def assert_same_weights(first, second, **tolerance):
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name, **tolerance)


def test_accumulated_micro_batches_are_the_big_batch(small_pictures, tmp_path):
    """To 1e-5 after three steps of SGD, in float32, for losses normalised per image and frozen norms."""
    whole = engine_of(frozen_recipe(optimizer="sgd", lr=0.01), small_pictures, tmp_path)
    parts = engine_of(frozen_recipe(optimizer="sgd", lr=0.01, accumulate=4), small_pictures, tmp_path)
    for here, there in zip(make_steps(whole, 3), make_steps(parts, 3), strict=True):
        assert here == pytest.approx(there, rel=1e-5)
    assert_same_weights(weights(whole), weights(parts), rtol=1e-5, atol=1e-5)


SET = {"channels": 32, "heads": 4, "feedforward": 64, "encoder_layers": 2, "decoder_layers": 2, "queries": 10}
SET_DETECTORS = {
    "detr": (detr, {}),
    "deformable_detr": (deformable_detr, {"levels": 3, "refine": True, "two_stage": True}),
    "sparse_detr": (sparse_detr, {"levels": 3, "rho": 0.3}),
}


@pytest.mark.parametrize("name", SET_DETECTORS)
def test_micro_batches_divide_by_the_objects_of_the_whole_batch(name, small_pictures, tmp_path):
    """To 1e-4 in float32: losses of two steps of SGD on images with unequal numbers of objects, one of them empty."""
    build, options = SET_DETECTORS[name]
    found = []
    for accumulate in (1, 4):
        model = {"backbone": "resnet50", "dropout": 0.0, **SET, **options}
        settings = {"batch_size": 4, "accumulate": accumulate, "optimizer": "sgd", "lr": 1e-3, "precision": "fp32"}
        engine = engine_of(Recipe("set", "", build, dataset=None, model=model, **settings), small_pictures, tmp_path)
        generator = torch.Generator().manual_seed(0)
        images = [torch.rand(3, 96, 96, generator=generator) for _ in range(4)]
        boxes = torch.tensor([[8.0, 8, 40, 48], [30, 20, 60, 90], [50, 5, 90, 30], [10, 60, 25, 80], [5, 5, 20, 20]])
        targets = [{"boxes": boxes[:n], "labels": torch.arange(n) % 3, "image_id": n} for n in (5, 0, 1, 2)]
        found.append([engine.step(images, targets) for _ in range(2)])
    for whole, parts in zip(*found, strict=True):
        assert parts == pytest.approx(whole, rel=1e-4)


def test_places_are_counted_within_a_micro_batch(small_pictures, tmp_path):
    """What the recipe says of ATSS: the loss is the mean of what each image gives alone, to 1e-5 in float32."""
    model = {"backbone": "resnet18", "channels": 32, "dyhead_blocks": 0, "tower_convs": 0, "body": {"norm": "frozen"}}
    recipe = Recipe("atss", "", atss, dataset=None, model={**model, "min_size": 64, "max_size": 64}, precision="fp32")
    engine = engine_of(recipe.with_changes({"batch_size": 2, "accumulate": 2}), small_pictures, tmp_path)
    images, targets = next(iter(engine.batches()))
    targets[0] = {**targets[0], "boxes": targets[0]["boxes"][:1], "labels": targets[0]["labels"][:1]}
    with torch.no_grad():
        alone = [engine.model([image], [target]) for image, target in zip(images, targets, strict=True)]
        together = engine.model(images, targets)
    losses = engine.step(images, targets)
    for part in together:
        assert losses[part] == pytest.approx(sum(float(parts[part]) for parts in alone) / 2, rel=1e-5)
    assert losses["classification"] != pytest.approx(float(together["classification"]), rel=1e-3)


def test_gradients_are_clipped_before_the_step(small_pictures, tmp_path):
    """One step of plain SGD moves the weights by lr times a gradient of at most the norm asked for."""
    settings = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.5, "offset_lr": 1.0, "weight_decay": 0.0}
    engine = engine_of(frozen_recipe(**settings, schedule="constant", clip_norm=0.01), small_pictures, tmp_path)
    before = weights(engine)
    make_steps(engine, 1)
    after = weights(engine)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm()
    assert moved.item() == pytest.approx(0.5 * 0.01, rel=1e-3)  # float32 rounding of weights near 1


def test_every_group_follows_the_schedule(small_pictures, tmp_path):
    recipe = frozen_recipe(backbone_lr=0.1, schedule="step", milestones=(2,), gamma=0.5, lr=1e-3)
    engine = engine_of(recipe, small_pictures, tmp_path)
    make_steps(engine, 3)
    assert engine.lr == pytest.approx(5e-4)
    assert {round(group["lr"], 9) for group in engine.optimizer.param_groups} == {5e-4, 5e-5}


def test_float16_scales_the_loss_and_the_checkpoint_holds_the_scale(small_pictures, tmp_path):
    engine = engine_of(quick_recipe(precision="fp16"), small_pictures, tmp_path)
    make_steps(engine, 2)
    engine.scaler.update(1024.0)
    engine.save()
    again = engine_of(quick_recipe(precision="fp16"), small_pictures, tmp_path)
    again.load()
    assert again.scaler.get_scale() == 1024.0 and again.iteration == 2
    assert engine_of(quick_recipe(), small_pictures, tmp_path / "fp32").scaler.is_enabled() is False


def test_an_overflow_of_float16_leaves_the_weights_alone(small_pictures, tmp_path):
    engine = engine_of(quick_recipe(precision="fp16"), small_pictures, tmp_path)
    make_steps(engine, 1)
    before, scale = dict(engine.model.named_parameters()), 2.0**120
    before = {name: value.detach().clone() for name, value in before.items()}
    engine.scaler.update(scale)
    assert make_steps(engine, 1)[0]["loss"] > 0
    assert engine.scaler.get_scale() == scale / 2
    for name, value in engine.model.named_parameters():
        assert torch.equal(value, before[name]), name


def broken_batch(engine):
    images, targets = next(iter(engine.batches()))
    return [torch.full_like(images[0], float("nan")), *images[1:]], targets


def test_a_loss_that_is_not_finite_saves_and_names_its_batch(small_pictures, tmp_path):
    engine = engine_of(quick_recipe(), small_pictures, tmp_path)
    images, targets = broken_batch(engine)
    ids = ", ".join(str(target["image_id"]) for target in targets)
    with pytest.raises(UserError, match=rf"not finite at iteration 0.*images {ids}; saved as .*nonfinite_0_0\.pt"):
        engine.step(images, targets)
    saved = read(tmp_path / "nonfinite_0_0.pt", NONFINITE)
    assert torch.equal(saved["images"][1], images[1]) and saved["losses"]["loss"] != saved["losses"]["loss"]
    assert [target["image_id"] for target in saved["targets"]] == [target["image_id"] for target in targets]


def test_a_recipe_may_skip_such_batches(small_pictures, tmp_path, capsys):
    engine = engine_of(quick_recipe(on_nonfinite="skip"), small_pictures, tmp_path)
    before = weights(engine)
    assert any("running_mean" in name for name in before)  # the statistics must not remember the batch either
    assert engine.step(*broken_batch(engine)) == {}
    assert "skipped" in capsys.readouterr().out and engine.skipped == 1 and engine.iteration == 1
    assert_same_weights(before, weights(engine), rtol=0, atol=0)
    assert make_steps(engine, 1)[0]["loss"] > 0
    assert all(value.isfinite().all() for value in engine.averaged.state_dict().values())


def test_a_gradient_that_is_not_finite_is_no_step_either(small_pictures, tmp_path):
    engine = engine_of(frozen_recipe(), small_pictures, tmp_path)
    weight = engine.model.head.classification_head.cls_logits.weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(engine)
    with pytest.raises(UserError, match=r"gradient norm (inf|nan)"):
        make_steps(engine, 1)
    assert_same_weights(before, weights(engine), rtol=0, atol=0)


def test_fp16_gives_up_when_smaller_scales_do_not_help(small_pictures, tmp_path):
    """A scaler halves its scale at every gradient that is not finite, and would go on for ever without a step."""
    engine = engine_of(frozen_recipe(iterations=100), small_pictures, tmp_path)
    engine.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=True)
    engine.model.head.classification_head.cls_logits.weight.register_hook(lambda gradient: gradient * float("nan"))
    before = weights(engine)
    make_steps(engine, 3)  # at scales 4, 2 and 1 it may still be the scale
    with pytest.raises(UserError, match="gradient norm nan"):
        make_steps(engine, 1)
    assert_same_weights(before, weights(engine), rtol=0, atol=0)


def test_a_batch_that_does_not_fit_ends_with_advice(small_pictures, tmp_path, monkeypatch):
    engine = engine_of(frozen_recipe(), small_pictures, tmp_path)

    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.model, "forward", full)
    with pytest.raises(UserError) as caught:
        make_steps(engine, 1)
    for part in (
        "4 images",
        "32x32 pixels",
        "batch_size=4",
        "the peak was",
        "accumulate=2",
        "activation_check",
        "bf16",
    ):
        assert part in str(caught.value)


def test_other_errors_pass_unchanged(small_pictures, tmp_path, monkeypatch):
    engine = engine_of(frozen_recipe(), small_pictures, tmp_path)

    def wrong(*args):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(engine.model, "forward", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        make_steps(engine, 1)


def test_mask_rcnn_learns_masks(small_pictures, tmp_path):
    model = {
        "backbone": "narrow",
        "channels": 32,
        "dyhead_blocks": 0,
        "box_head_width": 64,
        "min_size": 64,
        "max_size": 64,
    }
    recipe = Recipe("masks", "", mask_rcnn, dataset=None, model=model, masks=True, batch_size=2, precision="fp32")
    engine = engine_of(recipe, small_pictures, tmp_path)
    assert make_steps(engine, 1)[0]["loss_mask"] > 0


def test_resized_images_keep_their_size_in_training_only(small_pictures, tmp_path, monkeypatch):
    engine = engine_of(frozen_recipe(augmentation="multi_scale"), small_pictures, tmp_path)
    sizes = []
    engine.model.backbone.register_forward_pre_hook(lambda module, given: sizes.append(given[0].shape[-1]))
    target = {"boxes": torch.tensor([[2.0, 2, 20, 20]]), "labels": torch.tensor([0]), "image_id": 1}
    engine.step([torch.rand(3, 96, 96)], [target])
    engine.model.eval()(images=[torch.rand(3, 96, 96)])
    assert sizes == [96, 64]  # the recipe's detector has max_size 64


def test_checkpoints_from_before_a_setting_existed_are_continued(small_pictures, tmp_path):
    """An engine of the first version kept a scheduler and a generator, no scaler, and knew fewer settings."""
    engine = engine_of(quick_recipe(), small_pictures, tmp_path)
    make_steps(engine, 2)
    engine.save()
    state = read(engine.checkpoint_path, CHECKPOINT)
    del state["scaler"], state["images"]
    for setting in ("optimizer", "schedule", "accumulate", "milestones", "masks", "fraction"):
        del state["settings"][setting]
    write_atomically(engine.checkpoint_path, {**state, "schedule": {"last_epoch": 2}, "rng": torch.get_rng_state()})
    again = engine_of(quick_recipe(), small_pictures, tmp_path)
    again.load()
    assert again.iteration == 2 and again.lr == engine.lr
    assert make_steps(again, 1) == make_steps(engine, 1)


def test_a_checkpoint_of_other_images_is_refused(small_pictures, tmp_path):
    engine_of(quick_recipe(), small_pictures, tmp_path).save()
    train_set, val_set = (coco_folder(small_pictures, split) for split in ("train", "val"))
    with pytest.raises(UserError, match="images was 6, is 3"):
        Engine(quick_recipe(), fraction_of(train_set, 0.5), val_set, tmp_path).load()


def test_the_shipped_weights_are_read():
    assert zoo.load_trained("quickstart").recipe.settings()["optimizer"] == "adamw"


def test_categories_must_agree(small_pictures, tmp_path):
    train_set, val_set = (coco_folder(small_pictures, split) for split in ("train", "val"))
    val_set.categories = ["cat"]
    with pytest.raises(UserError, match="different categories"):
        Engine(quick_recipe(), train_set, val_set, tmp_path)


def test_losses_go_into_json(small_pictures, tmp_path):
    """What a log needs: plain floats under the detector's names."""
    losses = next(itertools.chain(make_steps(engine_of(quick_recipe(), small_pictures, tmp_path), 1)))
    assert json.loads(json.dumps(losses)) == losses
    assert losses["loss"] == pytest.approx(sum(value for name, value in losses.items() if name != "loss"))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("lacks", ["images", "categories"])
def test_an_empty_set_is_named(split, lacks, small_pictures, tmp_path):
    sets = {name: coco_folder(small_pictures, name) for name in ("train", "val")}
    empty = sets[split]
    empty.image_ids, empty.categories = ([], empty.categories) if lacks == "images" else (empty.image_ids, [])
    with pytest.raises(UserError, match=f"the {split} set has no {lacks}: .*{split}"):
        Engine(quick_recipe(), sets["train"], sets["val"], tmp_path)


def test_a_run_continues_on_its_own_images_only(small_pictures, tmp_path):
    engine = engine_of(quick_recipe(), small_pictures, tmp_path)
    engine.save()
    other = engine_of(quick_recipe(), small_pictures, tmp_path)
    other.val_set.image_ids.reverse()
    other = Engine(quick_recipe(), other.train_set, other.val_set, tmp_path)
    with pytest.raises(UserError, match="ids of images was"):
        other.load()
    engine.load()
