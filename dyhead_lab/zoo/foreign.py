"""Published weights as trained models: with the names of their classes and the size that they were made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from ..data.coco import CocoDetection
from ..detectors.detr.set_detector import SetDetector
from ..detectors.official import load_any
from ..detectors.official.checkpoints import Checkpoint, read_checkpoint
from ..detectors.official.hugging_face_files import CONFIG, WEIGHTS, json_object
from ..errors import UserError
from ..training.recipe import Recipe
from .datasets import coco

#: COCO's categories by their ids, 0 to 90, as torchvision lists them; ids that COCO does not use have no name.
COCO_91 = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
NO_NAME = ("__background__", "N/A")
COCO_80 = [name for name in COCO_91 if name not in NO_NAME]
#: Shorter side and most pixels of the longer one, as DETR's family is evaluated on COCO.
DETECTION_SIZE = (800, 1333)


def load_foreign(path: Path, name: str | None = None) -> tuple[nn.Module, Recipe, list[str]]:
    """A detector from weights that were not trained here, a recipe that says so, and the names of its classes.

    The detector's labels count the classes that have names. Official weights of DETR's family have a label for each of
    COCO's category ids; those that COCO does not use are dropped from what they find.

    Args:
        path: a file in a layout of :mod:`~dyhead_lab.detectors.official`, or the index of several.
        name: what the recipe is called; None names it after the file or its folder.

    Raises:
        UserError: the weights cannot be read, are of no known kind, do not fit, or do not tell what their classes are.
    """
    checkpoint = read_checkpoint(path)
    try:
        model = load_any(checkpoint)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if isinstance(model, SetDetector):
        if model.backbone is None:
            raise UserError(f"{path}: weights without a backbone, which starts every detection")
        model.detection_size = _detection_size(path)
    names = _class_names(path, checkpoint, _classes(model))
    kept = [name for name in names if name not in NO_NAME]
    if kept != names:
        model.register_forward_hook(_NamedLabels(names))
    recipe = Recipe(
        name=name or (path.parent.name if path.name in WEIGHTS else path.stem),
        summary=f"published weights of {type(model).__name__}, not trained here",
        detector=_not_built,
        dataset=coco if kept == COCO_80 else _no_data,
        precision="fp32",
    )
    return model, recipe, kept


class _NamedLabels:
    """A forward hook: detections of classes without a name go, the others' labels count the names."""

    def __init__(self, names: list[str]):
        self.numbers = torch.full((len(names),), -1)
        named = [label for label, name in enumerate(names) if name not in NO_NAME]
        self.numbers[named] = torch.arange(len(named))

    def __call__(self, model: nn.Module, images: Any, found: Any) -> list[dict[str, Tensor]] | None:
        if model.training:
            return None  # losses
        for one in found:
            one["labels"] = self.numbers.to(one["labels"].device)[one["labels"]]
        return [{part: value[one["labels"] >= 0] for part, value in one.items()} for one in found]


def _classes(model: Any) -> int:
    """How many labels a detector has."""
    if isinstance(model, SetDetector):
        return model.criterion.classes
    if hasattr(model, "roi_heads"):
        return model.roi_heads.box_predictor.cls_score.out_features - 1
    return model.classes if hasattr(model, "classes") else model.head.classification_head.num_classes


def _class_names(path: Path, checkpoint: Checkpoint, classes: int) -> list[str]:
    """The name of each label: as the file or the config beside it says, else COCO's."""
    for told in (_names_in_config(path, classes), _names_in_meta(checkpoint.meta), COCO_80, COCO_91):
        if len(told) == classes:
            return list(told)
    raise UserError(f"{path}: {classes} classes, whose names neither the file nor a config.json beside it tells")


def _names_in_config(path: Path, classes: int) -> list[str]:
    """As transformers keeps them; [] if nobody named them."""
    names = _json_beside(path, CONFIG).get("id2label")
    labels = [str(label) for label in range(classes)]
    if not isinstance(names, dict) or not set(names) <= set(labels) or names.get("0") == "LABEL_0":
        return []
    return [str(names.get(label, "N/A")) for label in labels] if names else []


def _names_in_meta(meta: Mapping[str, Any]) -> list[str]:
    """As mmengine keeps them, or mmcv before it; [] without any."""
    dataset = meta.get("dataset_meta")
    named = {**meta, **dataset} if isinstance(dataset, Mapping) else meta
    names = named.get("classes", named.get("CLASSES"))
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def _detection_size(path: Path) -> tuple[int, int]:
    size = _json_beside(path, "preprocessor_config.json").get("size")
    edges = [size.get(edge) for edge in ("shortest_edge", "longest_edge")] if isinstance(size, dict) else []
    match edges:
        case [int(shortest), int(longest)]:
            return shortest, longest
    return DETECTION_SIZE


def _json_beside(path: Path, name: str) -> dict[str, Any]:
    file = path.parent / name
    return json_object(file) if path.name in WEIGHTS and file.is_file() else {}


def _not_built(**options: Any) -> NoReturn:
    raise UserError("published weights come without a recipe: choose one of dyhead-lab zoo to train")


def _no_data(split: str) -> CocoDetection:
    raise UserError("these weights do not say what data they were trained on; name it with --data")
