"""The COCO metric, judged by pycocotools or an engine that gives the same numbers.

Average precision (AP) is the area under the precision-recall curve, sampled at 101 recalls, averaged over ten
IoU thresholds 0.50, 0.55, ..., 0.95 and all classes. At most 100 detections an image count.
See https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from pycocotools.coco import COCO
from torch import Tensor, nn
from tqdm import tqdm

from ..data.coco import CocoDetection
from ..data.draws import RaisingLoader
from .engines import judge

#: The 12 numbers in pycocotools' order, and what each one measures.
METRICS: dict[str, str] = {
    "AP": "IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "AP_small": "area below 32 x 32",
    "AP_medium": "area 32 x 32 to 96 x 96",
    "AP_large": "area above 96 x 96",
    "AR1": "recall with 1 detection an image",
    "AR10": "recall with 10 detections an image",
    "AR100": "recall with 100 detections an image",
    "AR_small": "recall, area below 32 x 32",
    "AR_medium": "recall, area 32 x 32 to 96 x 96",
    "AR_large": "recall, area above 96 x 96",
}

#: pycocotools' value of a number that is not defined because the ground truth has no such object.
UNDEFINED = -1.0


@dataclass(frozen=True)
class CocoResult:
    """What the COCO metric says. Values lie in [0, 1], or are :data:`UNDEFINED`.

    Attributes:
        numbers: the 12 numbers under the names of :data:`METRICS`.
        per_class: AP of each category, by name.
    """

    numbers: dict[str, float]
    per_class: dict[str, float]

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def table(self) -> str:
        """The 12 numbers as text, one a line. A dash stands for an undefined one."""
        return "\n".join(f"{name:<10} {_text(self[name]):>6}   {METRICS[name]}" for name in METRICS)

    def class_table(self) -> str:
        """AP of each category as text, best first."""
        width = max(map(len, self.per_class), default=0)
        ranked = sorted(self.per_class.items(), key=lambda item: -item[1])
        return "\n".join(f"{name:<{width}} {_text(value):>6}" for name, value in ranked)


def _text(value: float) -> str:
    return "-" if value == UNDEFINED else f"{value:.4f}"


def evaluate(
    ground_truth: CocoDetection | COCO, detections: Iterable[Mapping[str, Any]], engine: str = "pycocotools"
) -> CocoResult:
    """Judge detections by the COCO metric.

    Args:
        ground_truth: a data set, all of whose images count, or pycocotools' ``COCO``.
        detections: COCO records ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`` in pixels.
            There may be none. They are not changed.
        engine: who computes it, see :mod:`.judges`.

    Raises:
        ValueError: a detection names an image or category that the ground truth lacks, or the ground truth
            has an annotation with id 0, whose matches pycocotools would count as misses.
    """
    truth = ground_truth.coco if isinstance(ground_truth, CocoDetection) else ground_truth
    if 0 in truth.anns:
        raise ValueError("ground_truth has an annotation with id 0, which pycocotools cannot match; start at 1")
    judged = judge(truth, _records(truth, detections), engine)
    # axes: IoU threshold, recall, category, area range (0: all), most detections an image (-1: 100)
    precision_by_class = judged.eval["precision"][:, :, :, 0, -1]
    return CocoResult(
        numbers=dict(zip(METRICS, map(float, judged.stats), strict=True)),
        per_class={
            truth.cats[id]["name"]: _mean_defined(precision_by_class[:, :, k])
            for k, id in enumerate(judged.params.catIds)
        },
    )


def _mean_defined(values: np.ndarray) -> float:
    defined = values[values != UNDEFINED]
    return float(defined.mean()) if defined.size else UNDEFINED


def _records(truth: COCO, detections: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The detections with all that an engine reads: an id, an area, and that they are no crowds."""
    records = []
    for number, detection in enumerate(detections, start=1):
        for key, table in (("image_id", truth.imgs), ("category_id", truth.cats)):
            if detection[key] not in table:
                value = detection[key]
                raise ValueError(f"detections[{number - 1}]: the ground truth has no {key} {value!r}")
        _, _, w, h = detection["bbox"]
        records.append({**detection, "id": number, "area": w * h, "iscrowd": 0})
    return records


def to_coco_results(
    image_ids: Sequence[int], outputs: Sequence[Mapping[str, Tensor]], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """COCO records of what a detector found.

    Args:
        image_ids: one id for each output.
        outputs: for each image ``boxes`` (n, 4) xyxy in pixels, ``scores`` (n,), ``labels`` (n,) in 0..K-1.
        category_ids: the K ids of the labels, as in ``CocoDetection.category_ids``.

    Raises:
        ValueError: the lengths differ, or a label is not below K.
    """
    if len(image_ids) != len(outputs):
        raise ValueError(f"outputs must be one for each image: got {len(outputs)} for {len(image_ids)} image_ids")
    records: list[dict[str, Any]] = []
    for image_id, output in zip(image_ids, outputs, strict=True):
        boxes_xywh = output["boxes"].float().cpu().clone()
        boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
        scores, labels = output["scores"].float().tolist(), output["labels"].tolist()
        if any(not 0 <= label < len(category_ids) for label in labels):
            raise ValueError(f"labels must lie in 0..{len(category_ids) - 1}, got {sorted(set(labels))}")
        records += [
            {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
            for box, score, label in zip(boxes_xywh.tolist(), scores, labels, strict=True)
        ]
    return records


class _DetectionData(Protocol):
    """What :func:`detect_dataset` needs of a data set."""

    category_ids: list[int]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]: ...


@torch.no_grad()  # not inference_mode: what a model caches here (anchors, say) may be used in training again
def detect_dataset(
    model: nn.Module,
    dataset: _DetectionData,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    workers: int = 0,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Run a detector over a data set. The model's training modes are as before afterwards.

    Args:
        model: a detector in the form of CONTRIBUTING.md, already on ``device``.
        dataset: a :class:`~dyhead_lab.data.coco.CocoDetection`, or what looks like one.
        batch_size: images a step.
        device: where the images go.
        autocast: what to compute in under autocast; None for float32.
        workers: processes that read images; 0 reads here.
        progress: show a progress bar.

    Returns:
        COCO records, ready for :func:`evaluate`.

    Raises:
        UserError: an image cannot be read.
    """
    device = torch.device(device)
    loader = RaisingLoader(
        dataset,  # type: ignore[arg-type]  # a map-style data set need not inherit from Dataset
        batch_size=batch_size,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    records: list[dict[str, Any]] = []
    with evaluation_mode(model):
        for images, targets in tqdm(loader, desc="detect", unit="batch", leave=False, disable=not progress):
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                outputs = model([image.to(device, non_blocking=True) for image in images])
            records += to_coco_results([t["image_id"] for t in targets], outputs, dataset.category_ids)
    return records


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards each module has its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
