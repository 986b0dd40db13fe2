"""Any backbone of the timm library below a feature pyramid or a transformer."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...paths import WEIGHTS
from ...trace import emit
from ...weight_files import read_weight_file, warn_if_not_finite, without_wrappers
from ..image_batch import IMAGE_MEAN, IMAGE_STD
from .packaged_weights import PACKAGED, packaged_weights

#: What a detector writes before timm's name of a backbone: ``backbone="timm/tf_efficientnet_lite0"``.
PREFIX = "timm/"
#: Where ``weights`` come from beside a file: timm's own hub, a package of the package index, or the detector of
#: everyday photographs that is shipped, whose backbone has learned boxes after ImageNet.
HUB, PACKAGE, EVERYDAY = "hub", "package", "everyday"
#: The shipped detector, and the names of its backbone.
SHIPPED, SHIPPED_PREFIX = WEIGHTS / "everyday.pt", "backbone.body."
#: Strides of the maps c2 to c5.
STRIDES = {2: 4, 3: 8, 4: 16, 5: 32}


class TimmBody(nn.Module):
    """A backbone of timm that gives the maps of strides 8, 16 and 32.

    timm's backbones want the normalisation that their weights were trained with, detectors normalise by ImageNet's mean
    and deviation. The two differ by a factor and a summand per channel, which this module applies first, so that every
    detector can stand on every backbone.

    Args:
        name: timm's name, such as ``tf_efficientnet_lite0``; ``timm.list_models()`` has them all.
        weights: None starts at random; ``"hub"`` takes timm's default weights from its hub (a download, or the hub's
            cache); ``"package"`` takes those of a package of the package index, see :mod:`~.packaged_weights`;
            ``"everyday"`` takes the backbone of the shipped detector of that name; anything else is the path of a file
            with a state dict in timm's names.
        norm: ``"frozen"``: batch norms keep the statistics and gains that they have; ``"batch"``: they are trained.
        freeze_stride: all that the map of this stride is made of is not trained: 2 is the stem, 4 also the first stage,
            and so on; 0 trains everything.
        finest: first map that is returned, 2 (stride 4) to 5 (stride 32).
        options: further arguments of timm's network, such as ``{"drop_path_rate": 0.1}``.

    Attributes:
        channels: C of each map that is returned.

    Raises:
        UserError: timm is not installed, or the weights cannot be had or do not fit.
        ValueError: timm has no such backbone, or it has no maps of these strides.

    Shapes: images (B, 3, H, W), normalised by ImageNet's mean and deviation -> {"c3": (B, C3, H/8, W/8), ...,
        "c5": (B, C5, H/32, W/32)}, sizes rounded up.

    Source: https://github.com/huggingface/pytorch-image-models (Apache-2.0), its ``features_only``.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        norm: str = "frozen",
        freeze_stride: int = 0,
        finest: int = 3,
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if norm not in ("frozen", "batch"):
            raise ValueError(f'norm: expected "frozen" or "batch", got {norm!r}')
        if finest not in STRIDES:
            raise ValueError(f"finest: expected one of {', '.join(map(str, STRIDES))}, got {finest!r}")
        net = _create(name, weights == HUB, options or {})
        shipped = _shipped(name) if weights == EVERYDAY else None
        if shipped:
            net.load_state_dict(shipped["net"])
        elif weights not in (None, HUB):
            _load(net, name, weights)  # type: ignore[arg-type]
        reductions = net.feature_info.reduction()
        wanted = [stride for level, stride in STRIDES.items() if level >= finest]
        if len(set(reductions)) < len(reductions) or not set(wanted) <= set(reductions):
            raise ValueError(f"timm/{name}: expected maps of strides {wanted}, it gives {reductions}")
        if freeze_stride and freeze_stride not in reductions:
            raise ValueError(f"freeze_stride: timm/{name} has strides {reductions}, got {freeze_stride}")
        self._chosen = [reductions.index(stride) for stride in wanted]
        self._channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        self.channels = tuple(net.feature_info.channels()[i] for i in self._chosen)
        self.finest = finest
        if freeze_stride:
            _freeze(net, reductions.index(freeze_stride))
        self.net: Any = freeze_batch_norm(net) if norm == "frozen" else net
        # Kept with the weights: they belong to those that the training started from.
        normalisation = shipped["normalisation"] if shipped else _from_imagenet(name, net, weights)
        for buffer, value in zip(("scale", "shift"), normalisation, strict=True):
            self.register_buffer(buffer, value)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        emit(self, network_input=images)
        maps = self.net(images * self.scale + self.shift)
        chosen = [maps[i].permute(0, 3, 1, 2) if self._channels_last else maps[i] for i in self._chosen]
        return OrderedDict((f"c{level}", x) for level, x in enumerate(chosen, self.finest))


def _timm() -> Any:
    """The library; imported only where a backbone of it is asked for.

    Raises:
        UserError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbones named timm/... need the library timm ({error}): pip install timm") from error
    return timm


def _create(name: str, hub: bool, options: Mapping[str, Any]) -> Any:
    """timm's network without its classifier; it gives all its maps.

    Raises:
        UserError: its weights cannot be had from the hub.
        ValueError: timm has no such network.
    """
    timm = _timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"timm has no {name!r}{'; did you mean ' + ' or '.join(near) + '?' if near else ''}")
    try:
        return timm.create_model(name, pretrained=hub, features_only=True, **options)
    except (OSError, RuntimeError) as error:
        if not hub:
            raise
        raise UserError(
            f"cannot fetch timm's weights of {name} ({error}). Connect to the network, name a file, or start at random "
            "with weights=None"
        ) from error


def _load(net: Any, name: str, weights: str | Path) -> None:
    """Weights of a package or a file into the network; those of the classifier are left out.

    Raises:
        UserError: they cannot be read, or some that the network needs are missing.
    """
    if weights == PACKAGE:
        state = packaged_weights(name, [len(stage) for stage in net.blocks])
    else:
        state = read_weight_file(Path(weights), f"weights of timm/{name}")
        if not isinstance(state, Mapping):
            raise UserError(f"{weights} holds a {type(state).__name__}, expected weights of timm/{name} by name")
        state = without_wrappers(state)
        warn_if_not_finite(state, weights)
    try:
        lacking = net.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise UserError(f"{weights} does not fit timm/{name}: {error}") from error
    if lacking:
        raise UserError(f"{weights} has no {lacking[0]} ({len(lacking)} tensors of timm/{name} are missing)")


class _Shipped(TypedDict):
    """A shipped detector's backbone: weights in timm's names, and factor and summand of its normalisation."""

    net: dict[str, Tensor]
    normalisation: tuple[Tensor, Tensor]


def _shipped(name: str) -> _Shipped:
    """The backbone of the shipped detector of everyday photographs.

    Raises:
        UserError: its weights are missing or damaged, or it stands on another backbone.
    """
    file = read_weight_file(SHIPPED, "the shipped weights of everyday")
    if file["options"]["backbone"] != PREFIX + name:
        raise UserError(f'weights="{EVERYDAY}" are of {file["options"]["backbone"]}, not of {PREFIX}{name}')
    state = {
        key.removeprefix(SHIPPED_PREFIX): value.float() if value.is_floating_point() else value
        for key, value in file["state_dict"].items()
        if key.startswith(SHIPPED_PREFIX)
    }
    net = {key.removeprefix("net."): value for key, value in state.items() if key.startswith("net.")}
    return {"net": net, "normalisation": (state["scale"], state["shift"])}


def _freeze(net: Any, index: int) -> None:
    """Train nothing that the map of that index is made of, whatever timm calls its parts."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()  # one image must not enter any statistics
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    with torch.enable_grad():  # a detector may be built where gradients are off
        made_of_it = net(torch.zeros(1, 3, 64, 64))[index].sum()
        gradients = torch.autograd.grad(made_of_it, parameters, allow_unused=True)
    for module, training in modes:
        module.training = training
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.requires_grad_(False)


def freeze_batch_norm(net: nn.Module) -> nn.Module:
    """Every batch norm as one that keeps its statistics and gains; its names in the state dict stay."""
    return _timm().layers.freeze_batch_norm_2d(net)


def _from_imagenet(name: str, net: Any, weights: str | Path | None) -> tuple[Tensor, Tensor]:
    """Factor and summand, (3, 1, 1) each, that lead from ImageNet's normalisation to that of the weights."""
    if weights == PACKAGE:
        theirs = PACKAGED[name].mean, PACKAGED[name].std
    else:
        config = net.pretrained_cfg or net.default_cfg
        theirs = config["mean"], config["std"]
    own_mean, own_std, mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGE_MEAN, IMAGE_STD, *theirs))
    return own_std / std, (own_mean - mean) / std
