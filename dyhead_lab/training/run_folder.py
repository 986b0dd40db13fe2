"""What a run leaves beside its checkpoint: where it came from, its numbers as they came, and its result.

- ``run.json``: recipe and its file, detector and dataset by import path, settings, the weights that it started from if
  it is a fine-tuning, data; one entry per start, with command, machine, versions and git state
- ``log.jsonl``: one line of numbers each 20 iterations, evaluation and checkpoint; ``tensorboard/`` the same
- ``metrics.json``: the COCO numbers of ``weights.pt``, AP per class, how many of its detections were not finite, and
  the bytes that a step took
- ``detections.json``: what it found on the validation split, as COCO results
- ``weights.pt``: what was evaluated; ``nonfinite_*.pt``: batches that gave no finite loss
- ``.lock``: the process that trains in the folder, or was the last to do so; see :mod:`.run_lock`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ..data.coco import CocoDetection
from ..data.dataset import DetectionData, place_of
from ..errors import UserError
from ..evaluation.coco_metric import METRICS, CocoResult
from .checkpoint import RunLog, write_whole, writing
from .engine import Engine
from .observer import Observer, Silent
from .provenance import provenance
from .start import place_of_start
from .step_memory import StepMemory

RUN, LOG, METRICS_FILE, DETECTIONS = "run.json", "log.jsonl", "metrics.json", "detections.json"
WEIGHTS_FILE = "weights.pt"


class Journal:
    """Takes the numbers of a run to the log, to TensorBoard and to the observer.

    Args:
        engine: a run that is about to start, or to continue at its iteration.
        observer: who watches.
    """

    def __init__(self, engine: Engine, observer: Observer):
        self.folder = engine.out
        self.observer: Observer = observer
        self.log = RunLog(self.folder / LOG, engine.iteration)
        with writing(self.folder):
            self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=engine.iteration)
        write_origin(engine)
        observer.begin(engine.recipe, RunLog.entries(self.folder / LOG))

    @staticmethod
    def of(engine: Engine, observer: Observer) -> Journal:
        """The journal of this process: of several processes only the main one writes."""
        return Journal(engine, observer) if engine.accelerator.is_main_process else MuteJournal()

    def note(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add a line; nothing where there are no values.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        if not values:
            return
        self.log.add(iteration, **values)
        with writing(Path(self.board.log_dir)):
            for name, value in values.items():
                self.board.add_scalar(f"{'val' if name in METRICS else 'train'}/{name}", value, iteration)
        self.observer.note({"iteration": iteration, **values})

    def has_evaluated(self, iteration: int) -> bool:
        """Whether the log holds an evaluation of that iteration."""
        return any("AP" in entry for entry in RunLog.entries(self.log.path) if entry["iteration"] == iteration)

    def has_probed(self, iteration: int) -> bool:
        """Whether the log holds what a probe found at that iteration: neither losses nor an evaluation."""
        entries = [entry for entry in RunLog.entries(self.log.path) if entry["iteration"] == iteration]
        return any("loss" not in entry and "AP" not in entry for entry in entries)

    def finish(
        self, result: CocoResult, detections: Sequence[Mapping[str, Any]], memory: StepMemory | None = None
    ) -> None:
        """Write what the kept weights reach and found, and what memory a step took; None keeps what is known of it."""
        path = self.folder / METRICS_FILE
        known = read_json(path).get("memory") if path.exists() else None
        reached = {"numbers": result.numbers, "per_class": result.per_class, "not_finite": result.not_finite}
        write_json(path, {**reached, "memory": asdict(memory) if memory else known})
        write_json(self.folder / DETECTIONS, list(detections), indent=None)

    def close(self, message: str) -> None:
        """The run is over, for the reason that ``message`` gives."""
        with suppress(OSError):  # of a full disk the run has told; the log holds the same numbers
            self.board.close()
        self.observer.end(message)


class MuteJournal(Journal):
    """The journal of a process that writes nothing."""

    def __init__(self) -> None:
        self.observer = Silent()

    def note(self, iteration: int, values: Mapping[str, float]) -> None: ...
    def has_evaluated(self, iteration: int) -> bool:
        return False

    def has_probed(self, iteration: int) -> bool:
        return False

    def finish(self, result: CocoResult, detections: Any, memory: StepMemory | None = None) -> None: ...
    def close(self, message: str) -> None: ...


def forget(engine: Engine) -> None:
    """Remove the checkpoint and the results of the run before, which the next one would be taken for.

    Raises:
        UserError: they cannot be removed.
    """
    with writing(engine.out):
        results = [engine.out / name for name in (WEIGHTS_FILE, METRICS_FILE, DETECTIONS)]
        # The checkpoint comes last: until it is gone the folder still holds a run that can continue.
        for path in (*results, *engine.out.glob("nonfinite_*.pt"), engine.checkpoint_path):
            path.unlink(missing_ok=True)


def write_origin(engine: Engine) -> None:
    """Write ``run.json``; where the run continues, add this start to those before.

    Raises:
        UserError: it cannot be written, or what is there is damaged.
    """
    path = engine.out / RUN
    starts = read_part(path, "starts") if engine.iteration and path.exists() else []
    origin = {
        "recipe": engine.recipe.name,
        "file": engine.recipe.file or None,
        **engine.recipe.origin(),
        "start": place_of_start(engine.start),
        "data": {name: data_origin(data) for name, data in (("train", engine.train_set), ("val", engine.val_set))},
        "starts": [*starts, {"iteration": engine.iteration, **provenance(engine.accelerator.device.type)}],
    }
    write_json(path, origin)


def data_origin(data: DetectionData) -> dict[str, Any]:
    """Where a data set lies: its files, or the class of one that has none; and how many images it holds."""
    if isinstance(data, CocoDetection):
        files = {"annotations": str(data.annotations.resolve()), "folder": str(data.images.resolve())}
        return {**files, "images": len(data)}
    return {"class": place_of(data), "images": len(data)}


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write plain values, whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    write_whole(path, (json.dumps(content, indent=indent) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read what :func:`write_json` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error})") from error


def read_part(path: Path, name: str) -> Any:
    """One part of a file that :func:`write_json` wrote.

    Raises:
        UserError: the file is missing or damaged, or has no such part.
    """
    content = read_json(path)
    if not isinstance(content, dict) or name not in content:
        raise UserError(f"{path}: damaged (no {name})")
    return content[name]
