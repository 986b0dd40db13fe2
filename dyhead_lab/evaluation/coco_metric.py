"""The COCO metric, computed by pycocotools or an engine that gives the same numbers.

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

from ..data.dataset import DetectionData
from ..data.draws import RaisingLoader
from ..detectors.result_checks import check_detections
from .engines import run_engine
from .ground_truth import clean_truth
from .grouping import batches_of_one_size, padded_size
from .records import finite_records

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
        not_finite: how many detections had an infinite or NaN box or score, and so found nothing.
    """

    numbers: dict[str, float]
    per_class: dict[str, float]
    not_finite: int = 0

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def table(self) -> str:
        """The 12 numbers as text, one a line; a dash stands for an undefined one. Then what was not finite, if any."""
        lines = [f"{name:<10} {as_text(self[name]):>6}   {METRICS[name]}" for name in METRICS]
        if self.not_finite:
            lines.append(f"{self.not_finite} detections were not finite and found nothing")
        return "\n".join(lines)

    def class_table(self) -> str:
        """AP of each category as text, best first."""
        width = max(map(len, self.per_class), default=0)
        ranked = sorted(self.per_class.items(), key=lambda item: -item[1])
        return "\n".join(f"{name:<{width}} {as_text(value):>6}" for name, value in ranked)


def as_text(value: float, form: str = ".4f") -> str:
    """A number of the metric for people: a dash where it is not defined."""
    return "-" if value == UNDEFINED else format(value, form)


def evaluate(
    ground_truth: DetectionData | COCO,
    detections: Iterable[Mapping[str, Any]],
    engine: str | None = "pycocotools",
) -> CocoResult:
    """The COCO metric of detections.

    Detections whose box or score is infinite or NaN find nothing: a warning and the result say how many there are, see
    :func:`~.records.finite_records`.

    Args:
        ground_truth: a data set, all of whose images count, or pycocotools' ``COCO``. Both engines get the same clean
            copy of it, see :func:`~.ground_truth.clean_truth`.
        detections: COCO records ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`` in pixels.
            There may be none. They are not changed.
        engine: what computes it, see :mod:`.engines`. None: the fastest that is installed, and the other one where
            that fails.

    Raises:
        ValueError: a detection names an image or category that the ground truth lacks, or has no four numbers for a
            box; the ground truth cannot be read, see :func:`~.ground_truth.clean_truth`.
    """
    truth = clean_truth(ground_truth)
    records, not_finite = finite_records(detections)
    computed = run_engine(truth.dataset, truth.detections(records), engine)
    # axes: IoU threshold, recall, category, area range (0: all), most detections an image (-1: 100)
    precision_by_class = computed.eval["precision"][:, :, :, 0, -1]
    names = {truth.categories[id]: name for id, name in truth.names.items()}
    return CocoResult(
        numbers=dict(zip(METRICS, map(float, computed.stats), strict=True)),
        per_class={
            names[number]: _mean_defined(precision_by_class[:, :, k]) for k, number in enumerate(computed.params.catIds)
        },
        not_finite=not_finite,
    )


def _mean_defined(values: np.ndarray) -> float:
    defined = values[values != UNDEFINED]
    return float(defined.mean()) if defined.size else UNDEFINED


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

    @property
    def category_ids(self) -> list[int]: ...
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

    What is found in an image does not depend on the others: a batch holds only images that the detector would pad to
    the same size if each were alone (:mod:`.grouping`). Padding takes part in means and normalisations, and the
    published numbers were measured one image at a time.

    Args:
        model: a detector in the form of CONTRIBUTING.md, already on ``device``.
        dataset: a :class:`~dyhead_lab.data.coco.CocoDetection`, or what looks like one.
        batch_size: most images a step.
        device: where the images go.
        autocast: what to compute in under autocast; None for float32.
        workers: processes that read images; 0 reads here.
        progress: show a progress bar.

    Returns:
        COCO records in the order of the data set, ready for :func:`evaluate`.

    Raises:
        UserError: an image cannot be read, or the detector gives something else than its form says.
    """
    device = torch.device(device)
    loader = RaisingLoader(
        dataset,  # type: ignore[arg-type]  # a map-style data set need not inherit from Dataset
        batch_size=batch_size,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    items = enumerate(item for images, targets in loader for item in zip(images, targets, strict=True))
    found: dict[int, list[dict[str, Any]]] = {}
    with (
        evaluation_mode(model),
        tqdm(total=len(dataset), desc="detect", unit="image", leave=False, disable=not progress) as bar,
    ):
        size_of = padded_size(model)
        for batch in batches_of_one_size(items, lambda item: size_of(*item[1][0].shape[-2:]), batch_size):
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                outputs = model([image.to(device, non_blocking=True) for _, (image, _) in batch])
            check_detections(outputs, len(batch), len(dataset.category_ids))
            for (position, (_, target)), output in zip(batch, outputs, strict=True):
                found[position] = to_coco_results([target["image_id"]], [output], dataset.category_ids)
            bar.update(len(batch))
    return [record for position in sorted(found) for record in found[position]]


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
