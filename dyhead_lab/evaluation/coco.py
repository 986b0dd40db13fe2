"""The former name of :mod:`.coco_metric`, under which scripts outside this repository import the COCO metric."""

from .coco_metric import METRICS, UNDEFINED, CocoResult, detect_dataset, evaluate, evaluation_mode, to_coco_results

__all__ = ["METRICS", "UNDEFINED", "CocoResult", "detect_dataset", "evaluate", "evaluation_mode", "to_coco_results"]
