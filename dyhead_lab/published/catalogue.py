"""Which published weights can be had by name. Nothing here is imported from torch, so that a list appears at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..paths import WEIGHTS, find_weights
from ..recipe_names import NAMES, is_recipe, refuse_missing_python

#: What stands before the id of a repository on the Hugging Face Hub that is not in the catalogue, and before a
#: revision of it: a commit, a tag or a branch.
HUB_PREFIX, AT_REVISION = "hf:", "@"
#: The revision where nobody names one: what the repository holds today.
NEWEST = "main"

DETR = "https://arxiv.org/abs/2005.12872"
DEFORMABLE_DETR = "https://arxiv.org/abs/2010.04159"
SPARSE_DETR = "https://arxiv.org/abs/2111.14330"
DYNAMIC_HEAD = "https://arxiv.org/abs/2106.08322"


@dataclass(frozen=True)
class Published:
    """Weights of one model.

    Attributes:
        name: the id of its repository on the Hugging Face Hub, or a name of ours.
        summary: what it is.
        paper: its address.
        backbone: its name.
        ap: AP on COCO val2017 that its source states, as a share.
        megabytes: of its parameters in float32; a file may hold an optimiser's state besides.
        url: of the file; "" for a repository of the hub.
        revision: of the repository. :data:`NEWEST` where no commit was known when this list was written.
        by_hand: why no program can fetch it; "" if one can.
        licence: as the source states it.
    """

    name: str
    summary: str
    paper: str
    backbone: str
    ap: float
    megabytes: int
    url: str = ""
    revision: str = NEWEST
    by_hand: str = ""
    licence: str = "Apache-2.0"

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return self.url or f"https://huggingface.co/{self.name}"

    @property
    def pinned(self) -> str:
        """What holds the file to what was published, for people."""
        if self.url:
            return "one file"
        return f"revision {self.revision}" + (", not pinned" if self.revision == NEWEST else "")


def _detr(name: str, backbone: str, file: str, ap: float, megabytes: int) -> Published:
    url = f"https://dl.fbaipublicfiles.com/detr/{file}.pth"
    return Published(name, "DETR, 500 epochs, the authors' file", DETR, backbone, ap, megabytes, url)


def _deformable(kind: str, summary: str, ap: float, megabytes: int) -> Published:
    return Published(f"SenseTime/deformable-detr{kind}", summary, DEFORMABLE_DETR, "ResNet-50", ap, megabytes)


def _sparse(percent: int, ap: float) -> Published:
    url = f"https://arena.kakaocdn.net/brainrepo/sparse_detr/sparse_detr_r50_{percent}.pth"
    summary = f"Sparse DETR, {percent} % of the tokens refined, the authors' file"
    return Published(f"sparse-detr-r50-{percent}", summary, SPARSE_DETR, "ResNet-50", ap, 164, url)


def _mmdetection(name: str, summary: str, file: str, ap: float) -> Published:
    url = f"https://github.com/shinya7y/weights/releases/download/v1.0.0/{file}.pth"
    return Published(name, summary, DYNAMIC_HEAD, "ResNet-50", ap, 156, url)


#: Sources: the READMEs of facebookresearch/detr, fundamentalvision/Deformable-DETR (whose weights SenseTime's
#: repositories hold, converted) and kakaobrain/sparse-detr; configs/dyhead/metafile.yml of open-mmlab/mmdetection;
#: the pinned commit from transformers' own default for object detection. Sizes follow from counted parameters.
CATALOGUE: dict[str, Published] = {
    weights.name: weights
    for weights in (
        Published("facebook/detr-resnet-50", "DETR, 500 epochs", DETR, "ResNet-50", 0.420, 167, revision="1d5f47b"),
        _detr("detr-r50", "ResNet-50", "detr-r50-e632da11", 0.420, 167),
        _detr("detr-r50-dc5", "ResNet-50, dilated", "detr-r50-dc5-f0fb7ef5", 0.433, 167),
        _detr("detr-r101", "ResNet-101", "detr-r101-2c7b67e5", 0.435, 243),
        _detr("detr-r101-dc5", "ResNet-101, dilated", "detr-r101-dc5-a2e86def", 0.449, 243),
        _deformable("-single-scale", "Deformable DETR on one level", 0.394, 136),
        _deformable("-single-scale-dc5", "Deformable DETR on one dilated level", 0.415, 136),
        _deformable("", "Deformable DETR", 0.445, 160),
        _deformable("-with-box-refine", "Deformable DETR with box refinement", 0.462, 163),
        _deformable("-with-box-refine-two-stage", "Deformable DETR with box refinement and two stages", 0.469, 165),
        *(_sparse(percent, ap) for percent, ap in ((10, 0.453), (20, 0.456), (30, 0.460), (40, 0.462), (50, 0.463))),
        _mmdetection(
            "dyhead-atss-r50",
            "ATSS with Dynamic Head, mmdetection's training",
            "atss_r50_fpn_dyhead_4x4_1x_coco_20211219_023314-eaa620c6",
            0.433,
        ),
        _mmdetection(
            "dyhead-atss-r50-reproduction",
            "ATSS with Dynamic Head, mmdetection's training after the authors' recipe",
            "atss_r50_fpn_dyhead_for_reproduction_4x4_1x_coco_20220107_213939-162888e6",
            0.425,
        ),
        Published(
            "dyhead-atss-r50-official",
            "ATSS with Dynamic Head, the authors' file",
            DYNAMIC_HEAD,
            "ResNet-50",
            0.424,
            156,
            "https://github.com/microsoft/DynamicHead",
            by_hand="its host answers 409, public access is not permitted (microsoft/DynamicHead, issue 47); whoever "
            "has the file names its path. dyhead-atss-r50-reproduction follows the same recipe",
            licence="MIT",
        ),
    )
}


def is_published(name: str) -> bool:
    """Whether ``name`` means published weights: one of the catalogue, or ``hf:OWNER/REPOSITORY[@REVISION]``."""
    return name in CATALOGUE or name.startswith(HUB_PREFIX)


def refuse_unknown_source(source: str) -> None:
    """Refuse what is neither a recipe nor weights, by its name alone.

    Raises:
        UserError: with the names that look like it.
    """
    refuse_missing_python(source)
    if is_recipe(source) or find_weights(source) is not None or Path(source).exists() or is_published(source):
        return
    raise UserError(
        f"no recipe and no weights {source!r}; dyhead-lab zoo and dyhead-lab weights list what there is"
        f"{nearest(source, NAMES)}"
    )


def no_weights(source: str) -> str:
    """What to say where ``source`` names no weights: what it could be, and the names that look like it."""
    return (
        f"no weights at {source}: expected a weights file, a run folder with weights.pt, one of "
        f"{', '.join(shipped())}, or published weights (dyhead-lab weights lists them){nearest(source)}"
    )


def shipped() -> list[str]:
    """Names of the weights that come with this project."""
    return sorted(path.stem for path in WEIGHTS.glob("*.pt"))


def nearest(source: str, others: Iterable[str] = ()) -> str:
    """The end of a message about a name that means nothing: the names that look like it, if any do.

    Args:
        source: what was given.
        others: names that would have done, besides those of weights.
    """
    known = {known.casefold(): known for known in (*CATALOGUE, *shipped(), *others)}
    asked = source.removeprefix(HUB_PREFIX).partition(AT_REVISION)[0].casefold()
    near = [known[match] for match in difflib.get_close_matches(asked, known, 3, 0.55)]
    return f". Nearest names: {', '.join(near)}" if near else ""
