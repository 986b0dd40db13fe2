"""What keeps AP50 low: every mistake of a detector named by one of six kinds, and what mending that kind would give.

The kinds and their thresholds are those of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object
Detection Errors", ECCV 2020, section 2). TP matching at IoU 0.5 is that of the COCO metric. A false positive gets
the first kind that fits, in the order of :data:`KINDS`; each object that no detection found, and that no false
positive of the first two kinds accounts for, is missed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ..data.coco_json import index_coco
from ..data.dataset import DetectionData
from .coco_metric import UNDEFINED, as_text, evaluate
from .ground_truth import clean_truth
from .records import finite_records

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU: at least one for a hit, at most the other for nothing at all
MOST_DETECTIONS = 100  # of an image and class, as in the COCO metric

#: Kind of mistake -> its definition; "IoU" is the largest one with an object of the class that is meant.
KINDS: dict[str, str] = {
    "localisation": f"right class, IoU {BACKGROUND} to {FOREGROUND}",
    "classification": f"wrong class, IoU at least {FOREGROUND} with an object of another class",
    "duplicate": f"right class, IoU at least {FOREGROUND}, but a surer detection has the object",
    "background": f"IoU at most {BACKGROUND} with every object",
    "both": f"wrong class, IoU {BACKGROUND} to {FOREGROUND}",
    "missed": "an object that nothing above comes near",
}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        kind: see :data:`KINDS`.
        image_id: where.
        detection: the false positive, a COCO record; None where an object is missed.
        annotation: the object that it belongs to, a COCO annotation; None for a detection of the background.
    """

    kind: str
    image_id: int
    detection: Record | None
    annotation: Record | None

    @property
    def weight(self) -> float:
        """How bad it is: a false positive counts by its score, a missed object counts 1."""
        return 1.0 if self.detection is None else float(self.detection["score"])


@dataclass(frozen=True)
class ErrorReport:
    """All mistakes of a detector on a data set.

    Attributes:
        ap50: AP at IoU 0.5 as it is; ``UNDEFINED`` where there are no objects.
        gains: kind -> how much AP50 would rise if every mistake of this kind were mended, and no other; ``UNDEFINED``
            where there are no objects before or after it. So it is with ``missed`` where all objects are missed.
        mistakes: all of them, image by image.
        names: category id -> name.
        not_finite: how many detections had an infinite or NaN box or score, and so found nothing.
    """

    ap50: float
    gains: dict[str, float]
    mistakes: list[Mistake]
    names: dict[int, str]
    not_finite: int = 0

    def counts(self, least_score: float = 0.3) -> dict[str, Counter[str]]:
        """Kind -> how many mistakes by class: of what was detected, or of the object that was missed.

        Detections below ``least_score`` are not counted: there are very many, and they cost little AP.
        """
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        for mistake in self.mistakes:
            if mistake.weight >= least_score:
                counts[mistake.kind][self.names[_category(mistake)]] += 1
        return counts

    def confusions(self, least_score: float = 0.3) -> list[tuple[str, str, int]]:
        """(true class, detected class, how many), the most frequent first."""
        pairs: Counter[tuple[str, str]] = Counter()
        for mistake in self.mistakes:
            if mistake.kind == "classification" and mistake.weight >= least_score:
                assert mistake.annotation is not None
                pairs[self.names[mistake.annotation["category_id"]], self.names[_category(mistake)]] += 1
        return [(true, found, count) for (true, found), count in pairs.most_common()]

    def worst_images(self, most: int) -> list[int]:
        """Ids of the images whose mistakes weigh most, the worst first."""
        weights: Counter[int] = Counter()
        for mistake in self.mistakes:
            weights[mistake.image_id] += mistake.weight  # type: ignore[assignment]  # a Counter may hold floats
        return [image for image, _ in weights.most_common(most)]

    def table(self, least_score: float = 0.3) -> str:
        """Kinds with gain, number and definition, the costliest first; then their numbers by class; then confusions;
        then what was not finite, if any.

        A dash stands for an undefined number.
        """
        counts = self.counts(least_score)
        lines = [f"AP50 {as_text(self.ap50)}; numbers count detections with score {least_score} or more", ""]
        lines.append(f"{'kind':<15} {'gain':>7} {'number':>7}   definition")
        for kind in sorted(KINDS, key=lambda kind: -self.gains[kind]):
            lines.append(f"{kind:<15} {as_text(self.gains[kind], '+.4f'):>7} {counts[kind].total():7d}   {KINDS[kind]}")
        classes = sorted({name for counter in counts.values() for name in counter})
        width = max(map(len, classes), default=0)
        lines += ["", " ".join([" " * width, *(f"{kind:>14}" for kind in KINDS)])]
        for name in classes:
            lines.append(" ".join([f"{name:<{width}}", *(f"{counts[kind][name]:14d}" for kind in KINDS)]))
        for true, found, count in self.confusions(least_score)[:5]:
            lines.append(f"{true} taken for {found}: {count}")
        if self.not_finite:
            lines.append(f"{self.not_finite} detections were not finite and found nothing")
        return "\n".join(lines)


def _category(mistake: Mistake) -> int:
    record = mistake.detection if mistake.detection is not None else mistake.annotation
    assert record is not None
    return record["category_id"]


def analyse_errors(
    ground_truth: DetectionData | COCO, detections: Iterable[Record], engine: str | None = None
) -> ErrorReport:
    """Name every mistake, and measure what mending each kind would give.

    Mending follows TIDE: a localisation error gets the box of its object, a classification error its class (both
    are taken away where the object has been found already); duplicates, background and both are taken away; missed
    objects are taken out of the ground truth.

    Detections that are not finite count as :func:`~.coco_metric.evaluate` says.

    Args:
        ground_truth: a data set, or pycocotools' ``COCO``.
        detections: COCO records, as for :func:`~.coco_metric.evaluate`.
        engine: of the metric; None takes the fastest that is installed.

    Raises:
        ValueError: as :func:`~.coco_metric.evaluate` does.
    """
    clean = clean_truth(ground_truth)
    finite, not_finite = finite_records(detections)
    truth, records = clean.under_given_ids(clean.detections(finite))
    mistakes, hit = find_mistakes(truth, records)
    before = evaluate(truth, records, engine)["AP50"]
    gains = {}
    for kind in KINDS:
        mended_truth, mended = _mended(truth, records, [m for m in mistakes if m.kind == kind], hit)
        after = evaluate(mended_truth, mended, engine)["AP50"]
        gains[kind] = UNDEFINED if UNDEFINED in (before, after) else after - before
    names = {id: category["name"] for id, category in truth.cats.items()}
    return ErrorReport(before, gains, mistakes, names, not_finite)


def find_mistakes(truth: COCO, records: Sequence[Record]) -> tuple[list[Mistake], set[int]]:
    """Every mistake, and the ids of the annotations that were found."""
    by_image: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_image[record["image_id"]].append(record)
    mistakes: list[Mistake] = []
    found: set[int] = set()
    for image_id in sorted(truth.imgs):
        annotations = truth.imgToAnns.get(image_id, [])
        mistakes += _mistakes_of_image(image_id, annotations, _surest(by_image[image_id]), found)
    return mistakes, found


def _surest(records: list[Record]) -> list[Record]:
    """By falling score, at most 100 of a class. Equal scores keep their order, as in pycocotools."""
    seen: Counter[int] = Counter()
    kept = []
    for record in sorted(records, key=lambda record: -record["score"]):
        seen[record["category_id"]] += 1
        if seen[record["category_id"]] <= MOST_DETECTIONS:
            kept.append(record)
    return kept


def _mistakes_of_image(
    image_id: int, annotations: list[Record], records: list[Record], found: set[int]
) -> list[Mistake]:
    """Match, name what did not match, and add the ids of the annotations that were found to ``found``."""
    crowds = np.array([a["iscrowd"] for a in annotations], dtype=bool)
    boxes, objects = ([list(map(float, item["bbox"])) for item in items] for items in (records, annotations))
    ious = np.zeros((len(records), len(annotations)))
    if records and annotations:
        ious = np.asarray(coco_mask.iou(boxes, objects, crowds.astype(int).tolist()))
    same = np.array([[r["category_id"] == a["category_id"] for a in annotations] for r in records], dtype=bool)
    same = same.reshape(ious.shape)
    false_positives = []
    for row in range(len(records)):
        free = same[row] & ~crowds & np.array([a["id"] not in found for a in annotations], dtype=bool)
        best = _best(ious[row], free)
        if best is not None and ious[row, best] >= FOREGROUND:
            found.add(annotations[best]["id"])
        elif not (ious[row] >= FOREGROUND)[same[row] & crowds].any():  # in a crowd nobody counts
            false_positives.append(row)
    mistakes, accounted = [], set()
    for row in false_positives:
        kind, column = _kind(ious[row], same[row] & ~crowds, ~same[row] & ~crowds)
        annotation = None if column is None else annotations[column]
        mistakes.append(Mistake(kind, image_id, records[row], annotation))
        if kind in ("localisation", "classification") and annotation is not None:
            accounted.add(annotation["id"])
    for annotation in annotations:
        if not annotation["iscrowd"] and annotation["id"] not in found | accounted:
            mistakes.append(Mistake("missed", image_id, None, annotation))
    return mistakes


def _best(ious: np.ndarray, allowed: np.ndarray) -> int | None:
    """Column of the largest IoU among those allowed; of equal ones the last, as in pycocotools."""
    columns = np.flatnonzero(allowed)
    return int(columns[::-1][ious[columns[::-1]].argmax()]) if len(columns) else None


def _kind(ious: np.ndarray, same: np.ndarray, other: np.ndarray) -> tuple[str, int | None]:
    """The kind of a false positive and the object that it belongs to."""
    own, foreign = _best(ious, same), _best(ious, other)
    own_iou = 0.0 if own is None else ious[own]
    foreign_iou = 0.0 if foreign is None else ious[foreign]
    if BACKGROUND < own_iou < FOREGROUND:
        return "localisation", own
    if foreign_iou >= FOREGROUND:
        return "classification", foreign
    if own_iou >= FOREGROUND:
        return "duplicate", own
    if max(own_iou, foreign_iou) <= BACKGROUND:
        return "background", None
    return "both", foreign


def _mended(
    truth: COCO, records: Sequence[Record], mistakes: Sequence[Mistake], hit: set[int]
) -> tuple[COCO, list[Record]]:
    """Ground truth and detections after these mistakes of one kind are mended. Nothing is changed in place."""
    missed = {m.annotation["id"] for m in mistakes if m.detection is None and m.annotation is not None}
    if missed:
        kept = [a for a in truth.dataset["annotations"] if a["id"] not in missed]
        return index_coco({**truth.dataset, "annotations": kept}), list(records)
    replaced: dict[int, Record | None] = {}
    taken = set(hit)
    for mistake in sorted(mistakes, key=lambda mistake: -mistake.weight):
        replaced[id(mistake.detection)] = _mended_detection(mistake, taken)
    mended = [replaced.get(id(record), record) for record in records]
    return truth, [record for record in mended if record is not None]


def _mended_detection(mistake: Mistake, taken: set[int]) -> Record | None:
    """The detection as it should have been, None for not at all; its object is added to ``taken``."""
    detection, annotation = mistake.detection, mistake.annotation
    if mistake.kind not in ("localisation", "classification") or detection is None or annotation is None:
        return None
    if annotation["id"] in taken:
        return None
    taken.add(annotation["id"])
    field = "bbox" if mistake.kind == "localisation" else "category_id"
    return {**detection, field: annotation[field]}
