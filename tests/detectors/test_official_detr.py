"""Checkpoints of DETR's family: read safely, understood from their weights, refused with reasons."""

import argparse
import re

import pytest
import torch
from safetensors.torch import save_file

from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.configured import sparse_detr
from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR, DeformableDETRConfig
from dyhead_lab.detectors.detr.detr import DETR, DETRConfig
from dyhead_lab.detectors.official import load_deformable_detr, load_detr, load_sparse_detr
from dyhead_lab.detectors.official.detr_layouts import DEFORMABLE, to_official
from dyhead_lab.detectors.official.detr_weights import official_name
from dyhead_lab.errors import UserError

from .detr_cases import OracleCase
from .test_deformable_detr import tiny


def tiny_checkpoint(**changes):
    torch.manual_seed(0)
    return {name: value.clone() for name, value in DeformableDETR(tiny(**changes)).state_dict().items()}


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the checkpoint ran code')",))


def test_files_are_read_with_their_arguments_and_without_running_code(tmp_path):
    case = OracleCase("deformable_detr_two_stage")
    args = argparse.Namespace(num_queries=20, nheads=8, dropout=0.0, with_box_refine=True, dilation=False)
    torch.save({"model": case.state_dict(), "args": args, "epoch": 49}, tmp_path / "good.pth")
    model = load_deformable_detr(tmp_path / "good.pth")
    assert model.config.queries == 20 and model.config.dropout == 0.0 and not model.training
    save_file({name: value.clone() for name, value in case.state_dict().items()}, tmp_path / "good.safetensors")
    assert load_deformable_detr(str(tmp_path / "good.safetensors")).config.queries == 300

    torch.save({"model": case.state_dict(), "args": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"trap.pth cannot be read safely: it holds exec"):
        load_deformable_detr(tmp_path / "trap.pth")
    (tmp_path / "text.pth").write_bytes(b"no checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("missing.pth", "there is no checkpoint file"),
        ("text.pth", "text.pth is a text file"),
        ("list.pth", "holds a list"),
    ):
        with pytest.raises(UserError, match=message):
            load_deformable_detr(tmp_path / name)


def test_the_kind_of_model_follows_from_the_weights():
    def told(name, load=load_deformable_detr):
        config = load(OracleCase(name).state_dict()).config
        return config.refine, config.two_stage, config.efficient_queries, config.encoder_aux_loss

    assert told("deformable_detr") == (False, False, False, False)
    assert told("deformable_detr_refine") == (True, False, False, False)
    assert told("deformable_detr_two_stage") == (True, True, False, False)
    assert told("efficient_detr") == (True, True, True, False)
    assert told("sparse_detr_rho01", load_sparse_detr) == (True, True, True, True)


def test_sizes_follow_from_the_weights():
    changes = {"encoder_points": 2, "decoder_points": 3, "encoder_layers": 3, "feedforward": 48, "queries": 7}
    state = tiny_checkpoint(decoder_self_attention=False, **changes)
    assert load_deformable_detr(state, heads=4, dropout=0.0).config == tiny(decoder_self_attention=False, **changes)


def test_refinement_can_be_said_when_weights_cannot_tell():
    plain = tiny_checkpoint()
    assert not load_deformable_detr(plain, heads=4).config.refine
    assert load_deformable_detr(plain, refine=True, heads=4).config.refine
    args = argparse.Namespace(with_box_refine=True, nheads=4)
    assert load_deformable_detr({"model": plain, "args": args}).config.refine
    with pytest.raises(ValueError, match="refine=False does not fit"):
        load_deformable_detr(tiny_checkpoint(refine=True), refine=False, heads=4)


def test_other_numbers_of_classes_are_refused_until_fine_tuning_is_asked_for():
    state = tiny_checkpoint(refine=True)
    with pytest.raises(ValueError, match=r"these weights tell 3 classes apart, not 5; to fine-tune .* fine_tune=True"):
        load_deformable_detr(state, heads=4, classes=5)
    model = load_deformable_detr(state, heads=4, classes=5, fine_tune=True)
    kept = model.state_dict()
    assert kept["class_embed.0.bias"].shape == (5,)
    for name, value in state.items():
        if not name.startswith("class_embed"):
            assert torch.equal(kept[name], value)


def in_parallel(state):
    return {f"module.{name}": value for name, value in state.items()}


#: How training programs wrap weights.
WRAPPERS = {
    "alone": lambda state: state,
    "module.": in_parallel,
    "compiled in parallel": lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    "model": lambda state: {"model": state, "optimizer": {}, "lr_scheduler": {}, "epoch": 49},
    "state_dict": lambda state: {"state_dict": in_parallel(state), "epoch": 3},
    "params": lambda state: {"params": state},
    "mmengine": lambda state: {"meta": {"seed": 1}, "state_dict": state, "optimizer": {}, "message_hub": {}},
    "model_ema": lambda state: {"model_ema": in_parallel(state)},
    "ema_state_dict": lambda state: {"ema_state_dict": {**in_parallel(state), "n_averaged": torch.tensor(9)}},
    "RT-DETR": lambda state: {"ema": {"module": state, "updates": 9}},
}


def official_case(kind):
    """What loads a small official checkpoint of that kind, its entries, and what weights do not tell."""
    torch.manual_seed(0)
    if kind == "DETR":
        sizes = {"channels": 32, "feedforward": 16, "encoder_layers": 1, "decoder_layers": 2, "queries": 3}
        return load_detr, DETR(DETRConfig(classes=3, feature_channels=8, **sizes)).state_dict(), {}
    if kind == "Sparse DETR":
        return load_sparse_detr, OracleCase("sparse_detr_rho01").state_dict(), {}
    two_stage = kind == "two-stage"
    return load_deformable_detr, tiny_checkpoint(refine=two_stage, two_stage=two_stage), {"heads": 4}


@pytest.mark.parametrize("kind", ["DETR", "plain", "two-stage", "Sparse DETR"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_gives_the_same_detector(wrapper, kind, tmp_path):
    load, state, options = official_case(kind)
    torch.save(WRAPPERS[wrapper](state), tmp_path / "w.pth")
    loaded = load(tmp_path / "w.pth", **options).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


@pytest.mark.parametrize("kind", ["DETR", "plain", "two-stage", "Sparse DETR"])
@pytest.mark.parametrize("first", [True, False], ids=["first names", "second names"])
def test_safetensors_hold_a_head_once_under_either_name(kind, first, tmp_path):
    load, state, options = official_case(kind)
    expected = load(state, **options).state_dict()
    kept, seen = {}, {}
    for name in sorted(state, key=lambda name: (".decoder." in name or ".encoder." in name) == first):
        same = next(
            (other for other in seen.get(state[name].shape, []) if torch.equal(state[other], state[name])), None
        )
        if same is None or "_embed." not in name:
            kept[name] = state[name].contiguous()
            seen.setdefault(state[name].shape, []).append(name)
    assert len(kept) < len(state) or kind in ("DETR", "two-stage")
    save_file(kept, tmp_path / "w.safetensors")
    loaded = load(tmp_path / "w.safetensors", **options).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("own", "averaged"),
    [("model", "model_ema"), ("state_dict", "ema_state_dict"), ("model", "ema"), ("params", "params_ema")],
)
def test_averaged_weights_are_preferred_and_named(own, averaged):
    better = tiny_checkpoint()
    worse = {name: value + 1 for name, value in better.items()}
    with pytest.warns(UserWarning, match=f"state_dict holds averaged weights, under '{averaged}', which are loaded"):
        loaded = load_deformable_detr({own: worse, averaged: better, "epoch": 3}, heads=4).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in better.items())


def test_mmengine_keeps_averaged_weights_where_others_keep_their_own():
    """Its EMA hook swaps the two when it saves; its averaged model counts ``steps``."""
    better = tiny_checkpoint()
    worse = {**in_parallel({name: value + 1 for name, value in better.items()}), "steps": torch.tensor(9)}
    with pytest.warns(UserWarning, match="averaged weights, under 'state_dict', which are loaded"):
        loaded = load_deformable_detr({"state_dict": better, "ema_state_dict": worse, "meta": {}}, heads=4).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in better.items())


def test_weights_that_are_not_finite_give_a_warning():
    state = tiny_checkpoint()
    state["class_embed.0.bias"].fill_(float("inf"))
    state["class_embed.1.bias"].fill_(float("inf"))
    with pytest.warns(UserWarning, match=r"NaN or infinite in class_embed\.0\.bias, class_embed\.1\.bias;"):
        load_deformable_detr(state, heads=4)


def test_heads_are_compared_by_name_not_by_place():
    """Files sort their entries; a head's first name and its second need not come in the same order."""
    state = tiny_checkpoint()
    moved = {name: state.pop(name) for name in list(state) if name.startswith("bbox_embed.0.")}
    state |= dict(reversed(moved.items()))
    assert not load_deformable_detr(state, heads=4).config.refine


def test_refuses_weights_that_do_not_fit():
    state = tiny_checkpoint()
    norm = "transformer.encoder.layers.0.norm1.bias"
    with pytest.raises(ValueError, match=f"missing {norm}"):
        load_deformable_detr({name: value for name, value in state.items() if name != norm}, heads=4)
    with pytest.raises(ValueError, match="unexpected extra"):
        load_deformable_detr({**state, "extra": torch.zeros(1)}, heads=4)
    with pytest.raises(ValueError, match=r"query_embed.weight has shape \(5, 64\), expected \(9, 64\)"):
        load_deformable_detr(state, heads=4, queries=9)
    with pytest.raises(ValueError, match=r"not the weights of a Deformable DETR: missing transformer.level_embed"):
        load_deformable_detr({"conv1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"holds no state dict: .* under one of state_dict, model, .*; got weights$"):
        load_deformable_detr({"weights": 3})
    with pytest.raises(ValueError, match="unknown arguments: layers"):
        load_deformable_detr(state, layers=3)
    with pytest.raises(ValueError, match="use load_sparse_detr"):
        load_deformable_detr(OracleCase("sparse_detr_rho01").state_dict())
    with pytest.raises(ValueError, match="use load_deformable_detr"):
        load_sparse_detr(state)


@pytest.mark.parametrize("kind", ["DETR", "plain", "two-stage", "Sparse DETR"])
def test_damaged_entries_are_refused_by_name(kind):
    """An entry that is lost or has lost its shape is named, also where its size tells the configuration."""
    load, state, options = official_case(kind)
    heads = [name for name in state if re.search(r"(encoder|decoder)\.\w+_embed\.", name)]  # have a first name
    for name in [name for name in state if "layers.1" not in name and "layers.2" not in name and name not in heads]:
        others = {other: value for other, value in state.items() if other != name}
        for entries in (others, {**others, name: torch.tensor(1.0)}):
            second_name = any(head.endswith(name) for head in heads)
            if entries is others and (second_name or name == "transformer.pos_trans.bias"):
                continue  # which is enough; without pos_trans these are weights without proposals, and told to be odd
            with pytest.raises(ValueError, match=re.escape(name)):
                load(entries, **options)


def test_two_names_of_one_head_must_agree():
    state = OracleCase("deformable_detr_two_stage").state_dict()
    name = "transformer.decoder.class_embed.1.bias"
    state[name] = state[name] + 1
    with pytest.raises(ValueError, match=f"two names of one head differ: {name} and class_embed.1.bias"):
        load_deformable_detr(state)


@pytest.mark.parametrize("prefix", ["model.backbone.conv_encoder.model", "model.backbone.model"])
def test_hugging_face_backbones_get_their_official_names(prefix):
    stored = {
        f"{prefix}.layer1.0.downsample.1.running_var": torch.ones(1),
        f"{prefix}.bn1.num_batches_tracked": torch.ones(1),
        "model.encoder.layers.0.fc1.bias": torch.ones(1),
    }
    assert set(to_official(stored, DEFORMABLE)) == {
        "backbone.0.body.layer1.0.downsample.1.running_var",
        "transformer.encoder.layers.0.linear1.bias",
    }


def test_images_go_through_the_backbone_of_a_checkpoint():
    torch.manual_seed(0)
    config = DeformableDETRConfig(encoder_layers=1, decoder_layers=1, queries=4, feedforward=16, levels=3)
    whole = DeformableDETR(config, ResNetBackbone()).eval()
    loaded = load_deformable_detr(whole.state_dict())
    assert loaded.config.feature_channels == (512, 1024, 2048) and loaded.config.queries == 4
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        (ours,), (theirs,) = loaded([image]), whole([image])
    assert torch.equal(ours["boxes"], theirs["boxes"])
    other = {name.replace(".layer3.", ".layer5."): value for name, value in whole.state_dict().items()}
    with pytest.raises(ValueError, match=r"the backbone .* is a ResNet with 3, 4, 3, 6 blocks and 64 channels"):
        load_deformable_detr(other)


def test_maps_that_the_backbone_taken_here_does_not_give_are_refused():
    torch.manual_seed(0)
    four = (256, 512, 1024, 2048)
    config = DeformableDETRConfig(encoder_layers=1, decoder_layers=1, queries=4, feedforward=16, feature_channels=four)
    state = DeformableDETR(config, ResNetBackbone(finest=2)).state_dict()
    with pytest.raises(
        ValueError, match=r"read maps of \(256, 512, 1024, 2048\) channels; the maps of resnet50 taken here"
    ):
        load_deformable_detr(state)


def test_swin_transformers_come_with_their_official_names():
    torch.manual_seed(0)
    sizes = {"encoder_layers": 2, "decoder_layers": 1, "feedforward": 16, "queries": 4}
    whole = sparse_detr(5, "swin_t", **sizes).eval()
    official = {
        official_name(name): value.view(49, 49) if name.endswith("relative_position_index") else value
        for name, value in whole.state_dict().items()
    }
    assert "backbone.0.body.layers.1.blocks.0.attn.qkv.weight" in official and "backbone.0.body.norm3.bias" in official
    loaded = load_sparse_detr(official, queries=4)
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        (ours,), (theirs,) = loaded([image]), whole([image])
    assert torch.equal(ours["boxes"], theirs["boxes"])


@pytest.mark.parametrize(("backbone", "published"), [("resnet50", 760), ("swin_t", 682)])
def test_sparse_detr_has_as_many_entries_as_the_official_checkpoints(backbone, published):
    with torch.device("meta"):
        state = sparse_detr(91, backbone).state_dict()
    second_names = (12 + 5) * (2 + 6)  # of twelve heads in the decoder and five in the encoder
    assert len(state) == published - second_names
