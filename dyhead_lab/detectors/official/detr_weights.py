"""Official checkpoints of DETR, Deformable DETR, Efficient DETR and Sparse DETR in, our detectors out.

What the weights tell is read from their names and shapes; what they cannot tell is read from the arguments stored
beside them, or is an argument here with the published default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import nn

from ..detr.configured import pyramid_features
from ..detr.deformable_detr import DeformableDETR, DeformableDETRConfig
from ..detr.detr import DETR, DETRConfig
from ..detr.set_detector import SetDetector
from ..detr.sparse_detr import SparseDETR, SparseDETRConfig
from .backbone_kinds import backbone_of
from .checkpoints import Source, read_checkpoint
from .detr_layouts import DEFORMABLE, DENSE, Renaming, count, refines_by_name, to_official
from .dynamic_head_layouts import swin_name
from .state_dicts import StateDict, load_strictly, refuse_misshapen

Model = TypeVar("Model", bound=SetDetector)

#: The backbones that are built here.
_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "swin_t")
#: Entries whose sizes tell the configuration -> their dimensions.
_RANKS = {
    r"\.bias$": 1,
    r"^input_proj\.(\d+\.0\.)?weight$": 4,
    r"^(query_embed\.weight|transformer\.level_embed)$": 2,
    r"(\.conv1|patch_embed\.proj)\.weight$": 4,
}
_SCORER = "transformer.enc_mask_predictor."
_DENSE_NEEDS = (
    "query_embed.weight",
    "class_embed.bias",
    "input_proj.weight",
    "transformer.encoder.layers.0.linear1.bias",
)
_DEFORMABLE_NEEDS = (
    "transformer.level_embed",
    "class_embed.0.bias",
    "input_proj.0.0.weight",
    "transformer.encoder.layers.0.linear1.bias",
    "transformer.encoder.layers.0.self_attn.attention_weights.bias",
    "transformer.decoder.layers.0.cross_attn.attention_weights.bias",
)


def load_detr(source: Source, *, dilation: bool | None = None, fine_tune: bool = False, **overrides: Any) -> DETR:
    """Build the DETR that a checkpoint describes, and fill it.

    Args:
        source: a checkpoint file, its contents, or a folder of Hugging Face; :mod:`~dyhead_lab.detectors.official`
            lists the layouts.
        dilation: whether the backbone is DC5. None: the stored arguments tell, else no.
        fine_tune: keep the class head at its random start if ``classes`` differs from the weights.
        overrides: other fields of :class:`~..detr.DETRConfig`. Weights do not tell ``heads`` (8) or ``dropout``
            (0.1).

    Returns:
        the detector, in evaluation mode; without backbone entries, one that starts from a feature map.

    Raises:
        UserError: if a file cannot be read.
        ValueError: if the weights are those of another architecture, or do not fit the arguments.
    """
    entries, args = _read(source, DENSE, "DETR", _DENSE_NEEDS)
    _refuse_unknown(DETRConfig, overrides)
    told = DETRConfig(
        classes=len(entries["class_embed.bias"]) - 1,
        feature_channels=entries["input_proj.weight"].shape[1],
        channels=len(entries["input_proj.weight"]),
        heads=overrides.get("heads", args.get("nheads", DETRConfig.heads)),
        feedforward=len(entries["transformer.encoder.layers.0.linear1.bias"]),
        dropout=args.get("dropout", DETRConfig.dropout),
        encoder_layers=count(entries, "transformer.encoder.layers"),
        decoder_layers=count(entries, "transformer.decoder.layers"),
        queries=len(entries["query_embed.weight"]),
        decoder_self_attention=_queries_see_each_other(entries),
    )
    config = replace(told, **overrides)
    model = DETR(config, _backbone(entries, args, dilation, 1, (config.feature_channels,)))
    return _fill(model, entries, told.classes, fine_tune)


def load_deformable_detr(
    source: Source,
    *,
    refine: bool | None = None,
    compat: str | None = None,
    dilation: bool | None = None,
    fine_tune: bool = False,
    **overrides: Any,
) -> DeformableDETR:
    """Build the Deformable DETR (or Efficient DETR) that a checkpoint describes, and fill it.

    Args:
        source: a checkpoint file, its contents, or a folder of Hugging Face; :mod:`~dyhead_lab.detectors.official`
            lists the layouts.
        refine: whether decoder layers refine boxes. None: the stored arguments tell, else whether the decoder's
            heads differ from each other.
        compat: None, or ``"sparse-detr"`` for a checkpoint of that repository.
        dilation: whether the backbone is DC5. None: the stored arguments tell, else no.
        fine_tune: keep the class heads at their random start if ``classes`` differs from the weights.
        overrides: other fields of :class:`~..deformable_detr.DeformableDETRConfig`. Weights do not tell ``heads``
            (8), ``dropout`` (0.1) or the ``queries`` of a two-stage model (300).

    Returns:
        the detector, in evaluation mode; without backbone entries, one that starts from a pyramid.

    Raises:
        UserError: if a file cannot be read.
        ValueError: if the weights are those of another architecture, or do not fit the arguments.
    """
    entries, args = _read(source, DEFORMABLE, "Deformable DETR", _DEFORMABLE_NEEDS)
    if any(name.startswith(_SCORER) for name in entries):
        raise ValueError("these are weights of Sparse DETR (they have a token scorer): use load_sparse_detr")
    told = _told(entries, args, refine, compat, overrides)
    _refuse_unknown(DeformableDETRConfig, overrides)
    config = DeformableDETRConfig(**{**told, **overrides})
    model = DeformableDETR(config, _backbone(entries, args, dilation, config.levels, config.feature_channels))
    return _fill(model, entries, told["classes"], fine_tune)


def load_sparse_detr(
    source: Source,
    *,
    rho: float = 0.3,
    compat: str | None = None,
    dilation: bool | None = None,
    fine_tune: bool = False,
    **overrides: Any,
) -> SparseDETR:
    """Build the Sparse DETR that a checkpoint describes, and fill it.

    Args:
        rho: share of the tokens that is refined; weights do not tell it, and it may differ from training.

    The others are as in :func:`load_deformable_detr`.

    Raises:
        UserError: if a file cannot be read.
        ValueError: if the weights are those of another architecture, or do not fit the arguments.
    """
    entries, args = _read(source, DEFORMABLE, "Deformable DETR", _DEFORMABLE_NEEDS)
    if not any(name.startswith(_SCORER) for name in entries):
        raise ValueError("these weights have no token scorer, so they are not Sparse DETR: use load_deformable_detr")
    told = _told(entries, args, True, compat, overrides)
    _refuse_unknown(SparseDETRConfig, overrides)
    config = SparseDETRConfig(**{**told, "rho": rho, **overrides})
    model = SparseDETR(config, _backbone(entries, args, dilation, config.levels, config.feature_channels))
    return _fill(model, entries, told["classes"], fine_tune)


def _read(
    source: Source, hugging_face: Renaming, kind: str, needed: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    checkpoint = read_checkpoint(source)
    args = dict(checkpoint.args)
    if refines_by_name(checkpoint.weights):
        args.setdefault("with_box_refine", True)
    entries = to_official(checkpoint.weights, hugging_face)
    missing = [name for name in needed if name not in entries]
    if missing:
        raise ValueError(f"not the weights of a {kind}: missing {', '.join(missing)}")
    refuse_misshapen(entries, _RANKS)
    return entries, args


def _refuse_unknown(config: type, overrides: dict[str, Any]) -> None:
    unknown = sorted(set(overrides) - {field.name for field in fields(config)})
    if unknown:
        raise ValueError(f"unknown arguments: {', '.join(unknown)}")


def _told(
    entries: StateDict, args: dict[str, Any], refine: bool | None, compat: str | None, overrides: dict[str, Any]
) -> dict[str, Any]:
    """What names, shapes, tied heads and stored arguments tell of the configuration of a Deformable DETR."""
    names = [f"input_proj.{i}.0.weight" for i in range(count(entries, "input_proj"))]
    projections = [entries[name] for name in names if name in entries]
    levels, channels = entries["transformer.level_embed"].shape
    heads = overrides.get("heads", args.get("nheads", DeformableDETRConfig.heads))
    encoder_layers = count(entries, "transformer.encoder.layers")
    decoder_layers = count(entries, "transformer.decoder.layers")
    two_stage = "transformer.pos_trans.bias" in entries
    query_embed = entries.get("query_embed.weight")
    queries = args.get("num_queries", DeformableDETRConfig.queries) if query_embed is None else len(query_embed)
    encoder_aux_loss = count(entries, "class_embed") > decoder_layers + two_stage
    own_heads = _heads_differ(entries, decoder_layers)
    if refine is None:
        refine = two_stage or args.get("with_box_refine", own_heads)
    if own_heads and not (refine or encoder_aux_loss):
        raise ValueError("refine=False does not fit: the decoder layers of these weights have box heads of their own")

    def points(attention: str) -> int:
        return len(entries[f"transformer.{attention}.attention_weights.bias"]) // (heads * levels)

    return dict(
        classes=len(entries["class_embed.0.bias"]),
        feature_channels=tuple(weight.shape[1] for weight in projections if weight.shape[-1] == 1),
        channels=channels,
        heads=heads,
        feedforward=len(entries["transformer.encoder.layers.0.linear1.bias"]),
        dropout=args.get("dropout", DeformableDETRConfig.dropout),
        levels=levels,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_points=points("encoder.layers.0.self_attn"),
        decoder_points=points("decoder.layers.0.cross_attn"),
        queries=queries,
        refine=refine,
        two_stage=two_stage,
        efficient_queries=two_stage and len(entries["transformer.pos_trans.bias"]) == channels,
        encoder_aux_loss=encoder_aux_loss,
        decoder_self_attention=_queries_see_each_other(entries),
        compat=compat,
    )


def _queries_see_each_other(entries: StateDict) -> bool:
    return any(name.startswith("transformer.decoder.layers.0.self_attn.") for name in entries)


def _heads_differ(entries: StateDict, decoder_layers: int) -> bool:
    """Whether the decoder's layers have box heads of their own. Without refinement one head serves all of them."""
    first = {name: value for name, value in entries.items() if name.startswith("bbox_embed.0.")}
    others = (
        (value, entries.get(name.replace(".0.", f".{layer}.", 1)))
        for layer in range(1, decoder_layers)
        for name, value in first.items()
    )
    return not all(other is None or torch.equal(value, other) for value, other in others)


def _backbone(
    entries: StateDict, args: dict[str, Any], dilation: bool | None, levels: int, expected: tuple[int, ...]
) -> nn.Module | None:
    """A backbone of the kind that the entries describe, whose maps have the expected channels; None without entries."""
    if not any(name.startswith("backbone.") for name in entries):
        return None
    name = backbone_of(entries, "backbone.0.body.", _BACKBONES)
    dilated = bool(args.get("dilation")) if dilation is None else dilation
    backbone, channels = pyramid_features(name, levels=levels, body={"dilation": True} if dilated else None)
    if channels != expected:
        raise ValueError(
            f"these weights read maps of {expected} channels; the maps of {name} taken here have {channels}"
        )
    return backbone


def official_name(ours: str) -> str:
    """A name in our detectors -> the official one. They differ only inside Swin Transformers."""
    inside = ours.removeprefix("backbone.0.")
    return f"backbone.0.body.{swin_name(inside)}" if inside.startswith(("features.", "norms.")) else ours


def _fill(model: Model, entries: dict[str, torch.Tensor], classes: int, fine_tune: bool) -> Model:
    """Load strictly; ``classes`` is what the weights tell. Class heads may stay fresh when fine-tuning."""
    wanted = model.criterion.classes
    if classes != wanted:
        if not fine_tune:
            raise ValueError(
                f"these weights tell {classes} classes apart, not {wanted}; to fine-tune them for {wanted} classes, "
                "pass fine_tune=True: the class heads then start anew and everything else is kept"
            )
        fresh = {name: value for name, value in model.state_dict().items() if name.startswith("class_embed.")}
        entries = entries | fresh
    load_strictly(model, entries, official_name)
    return model.eval()
