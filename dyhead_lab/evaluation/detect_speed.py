"""How long a detector takes for an image on a CPU: as it is, prepared, and transformers' on the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ..detectors.detr.set_detector import SetDetector
from ..detectors.image_batch import pad_images
from ..detectors.inference import prepared
from ..errors import UserError
from ..ops.autocast import has_bfloat16
from ..ops.bench import measure

#: What is measured where no weights are named.
RANDOM = "Deformable DETR on ResNet-50, random weights"
CLASSES = 91
TRANSFORMERS = "transformers"
#: Configurations of transformers whose detectors are built here too.
KINDS = ("detr", "deformable_detr")

Row = dict[str, str | float]


def rows_of(
    name: str, model: nn.Module, folder: Path | None, size: tuple[int, int], rounds: int, say: Callable[[str], None]
) -> list[Row]:
    """Median milliseconds of one random image, in float32 and, where the processor has it, under bfloat16.

    Contenders take turns.

    Args:
        name: what the weights are called.
        model: the detector, in evaluation mode on a CPU. From then on it takes images of ``size`` as they are.
        folder: of the same weights in transformers' form, or None.
        size: (H, W) of the image.
        rounds: timed runs of each.
        say: told each row as it comes.
    """
    _take_as_it_is(model, size)
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    their_model = _theirs(folder) if folder is not None and is_theirs(folder) and find_spec(TRANSFORMERS) else None
    rows: list[Row] = []
    for dtype in (torch.float32, *((torch.bfloat16,) if has_bfloat16(torch.device("cpu")) else ())):
        half = None if dtype == torch.float32 else dtype
        ready = prepared(model, half)
        runs = {"as it is": _run(model, [image], half), "prepared": _run(ready, [image], half)}
        if their_model is not None:
            runs[TRANSFORMERS] = _run(their_model, pad_images([image])[0], half)
        seconds = measure.medians(runs, rounds, "cpu")
        for who, median in seconds.items():
            row: Row = {
                "weights": name,
                "image": f"{size[0]} x {size[1]}",
                "precision": str(dtype).removeprefix("torch."),
                "who": who,
                "median_ms": median * 1e3,
                "times_faster_than_the_last": list(seconds.values())[-1] / median,
            }
            if isinstance(model, SetDetector):
                row |= _distance(model, {"as it is": model, "prepared": ready}.get(who, their_model), image, half)
            rows.append(row)
            say(line(row))
    return rows


def _run(model: nn.Module, argument: Any, dtype: torch.dtype | None) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            return model(argument)

    return run


def _take_as_it_is(model: nn.Module, size: tuple[int, int]) -> None:
    if isinstance(model, SetDetector):
        model.detection_size = None
    for module in model.modules():
        if isinstance(module, GeneralizedRCNNTransform):
            module.min_size, module.max_size = (min(size),), max(size)


def _distance(model: SetDetector, who: Any, image: Tensor, dtype: torch.dtype | None) -> dict[str, float]:
    """How far a contender's first predictions lie from the detector's own in float32: probabilities and boxes, which
    count in shares of the image."""
    with torch.inference_mode():
        exact = model.predictions([image])
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            if isinstance(who, SetDetector):
                found = who.predictions([image])
                logits, boxes = found["pred_logits"], found["pred_boxes"]
            else:
                found = who(pad_images([image])[0])
                logits, boxes = found.logits, found.pred_boxes
    return {
        "probabilities_differ_by": float((logits.float().sigmoid() - exact["pred_logits"].sigmoid()).abs().max()),
        "boxes_differ_by": float((boxes.float() - exact["pred_boxes"]).abs().max()),
    }


def is_theirs(folder: Path) -> bool:
    """Whether a folder holds a detector that transformers builds too."""
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") in KINDS


def _theirs(folder: Path) -> Any:
    from transformers import AutoModelForObjectDetection

    return AutoModelForObjectDetection.from_pretrained(folder, local_files_only=True).eval()


@contextmanager
def random_weights(**sizes: Any) -> Iterator[Path]:
    """A folder with transformers' Deformable DETR on ResNet-50, filled at random: speed depends on no weights.

    Args:
        sizes: other numbers than the published ones, as transformers calls them.

    Raises:
        UserError: transformers or timm, which make it, are not installed.
    """
    missing = [package for package in (TRANSFORMERS, "timm") if find_spec(package) is None]
    if missing:
        raise UserError(f"name weights with --weights; those that are drawn without it need {' and '.join(missing)}")
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection
    from transformers.utils import logging

    logging.disable_progress_bar()
    backbone: dict[str, Any] = {"use_timm_backbone": True, "backbone": "resnet50", "backbone_config": None}
    options = {**backbone, "use_pretrained_backbone": False, "num_labels": CLASSES, **sizes}
    config = DeformableDetrConfig(**options)
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        DeformableDetrForObjectDetection(config).save_pretrained(folder)
        yield Path(folder)


#: Names of the columns that :func:`line` writes.
HEADING = f"{'weights':44} {'image':12} {'precision':9} {'who':13} {'ms':>9} {'faster':>7} {'scores':>10} {'boxes':>10}"
DISTANCES = ("probabilities_differ_by", "boxes_differ_by")


def line(row: Row) -> str:
    """A row as text; the last two numbers say how far it lies from the detector as it is in float32."""
    far = [f"{row[key]:10.1e}" if key in row else f"{'-':>10}" for key in DISTANCES]
    return (
        f"{row['weights']:44} {row['image']:12} {row['precision']:9} {row['who']:13} {row['median_ms']:9.1f} "
        f"{row['times_faster_than_the_last']:6.2f}x {' '.join(far)}"
    )
