"""What the commands that evaluate trained models share: on which images, and what the model finds there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..evaluation.engines import ENGINES
from ..paths import find_weights
from ..published.catalogue import is_published, no_weights
from ..recipe_names import refuse_missing_python

if TYPE_CHECKING:
    from ..data.coco import CocoDetection
    from ..data.dataset import DetectionData
    from ..zoo import Trained


def add_import_argument(parser: argparse.ArgumentParser) -> None:
    """Where to find the classes that weights name outside of this library."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        type=_module,
        default=[],
        metavar="FILE_OR_MODULE",
        help="Python file or module that defines what the weights name, such as mine.py; it is run; may be repeated",
    )


def _module(named: str) -> str:
    refuse_missing_python(named)
    return named


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, on which images, and what computes the metric."""
    parser.epilog = (
        "What is found in an image does not depend on the others: a batch holds only images that are padded to the "
        "same size, so each has the padding that it would have alone, as in published evaluations."
    )
    add_import_argument(parser)
    parser.add_argument(
        "source", metavar="RUN_OR_WEIGHTS", help="run folder, weights file, or a name of dyhead-lab weights"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of data (default: what the run was trained on, or the recipe's)",
    )
    parser.add_argument("--split", help="such as val, train or test (default: val, or the only split of --data)")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that read images (default: none)"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="what computes the metric (default: %(default)s)"
    )


def refuse_missing_folder(folder: Path | None) -> None:
    """Refuse a folder of data that is not there, before anything heavy is imported.

    Raises:
        UserError: it is named and not there.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"data folder not found: {folder}")


def refuse_negative(args: argparse.Namespace, *names: str) -> None:
    """Refuse counts below 0.

    Raises:
        UserError: one of the options ``names`` is.
    """
    for name in names:
        if getattr(args, name) < 0:
            raise UserError(f"--{name}: expected at least 0, got {getattr(args, name)}")


def refuse_missing(source: str | Path) -> None:
    """Refuse weights that are not there, before anything is imported that takes seconds.

    Raises:
        UserError: ``source`` is neither a file or folder nor the name of shipped or published weights.
    """
    if find_weights(source) is None and not Path(source).exists() and not is_published(str(source)):
        raise UserError(f"{no_weights(str(source))}. A recipe is trained first: dyhead-lab train RECIPE")


def dataset_of(trained: Trained, folder: Path | None, split: str | None) -> DetectionData:
    """The images to evaluate on: those of ``folder``, else those of the run of the weights, else those of the recipe.

    Raises:
        UserError: they are not there, or have classes that the model does not know.
    """
    from ..data.coco import coco_folder
    from ..data.dataset import place_of
    from ..data.layouts import find_splits

    dataset: DetectionData
    if folder is None:
        dataset = _data_of_run(trained, split or "val") or trained.recipe.data(split or "val")
    else:
        only_one = len(find_splits(folder)) == 1
        dataset = coco_folder(folder, split or (None if only_one else "val"))
    if list(dataset.categories) != trained.categories:
        raise UserError(
            f"{trained.path} knows the classes {', '.join(trained.categories)}; {place_of(dataset)} has "
            f"{', '.join(dataset.categories)}. Name the right data with --data"
        )
    return dataset


def _data_of_run(trained: Trained, split: str) -> CocoDetection | None:
    """A split of the data that the run of these weights was trained on; it need not be one that the run used.

    None for weights without a run, and for a run whose data lies in no files.

    Raises:
        UserError: the data is not where it was, or lacks images, or no such split lies beside it.
    """
    from ..data.coco import CocoDetection, coco_folder
    from ..training.run_folder import RUN, read_part

    run = trained.path.parent / RUN
    parts = read_part(run, "data") if run.exists() else {}
    used = {name: part for name, part in parts.items() if "folder" in part}
    if not used:
        return None
    some = next(iter(used.values()))["annotations"]
    if not Path(some).exists():
        raise UserError(f"{run.parent} was trained on {some}, which is not there any more: name its data with --data")
    if split in used:
        dataset = CocoDetection(used[split]["folder"], used[split]["annotations"])
        dataset.refuse_missing_images()
        return dataset
    folder = _folder_of_splits(Path(some))
    if folder is None:
        raise UserError(f"{run.parent} was trained on {some}; no split {split!r} lies beside it: name one with --data")
    return coco_folder(folder, split)


def _folder_of_splits(annotations: Path) -> Path | None:
    """The folder of data among whose splits is the one of these annotations."""
    from ..data.layouts import find_splits

    for folder in (annotations.parent.parent, annotations.parent):
        if any(split.annotations.resolve() == annotations.resolve() for split in find_splits(folder).values()):
            return folder
    return None


def detections_of(trained: Trained, dataset: DetectionData, workers: int = 0) -> list[dict[str, Any]]:
    """COCO records of what the model finds, with a progress bar."""
    from ..detectors.inference import prepared
    from ..evaluation.coco_metric import detect_dataset
    from ..hardware import computing_device

    device = computing_device()
    dtype = trained.recipe.autocast_dtype(device)
    return detect_dataset(
        prepared(trained.model.to(device), dtype),
        dataset,
        device=device,
        autocast=dtype,
        workers=workers,
        progress=True,
    )


def kept_detections(trained: Trained, dataset: DetectionData) -> list[dict[str, Any]] | None:
    """What the run of these weights wrote down about this very data set at its end; None if it did not."""
    from ..data.dataset import place_of
    from ..training.run_folder import DETECTIONS, RUN, read_json, read_part

    folder = trained.path.parent
    if not (folder / RUN).exists() or not (folder / DETECTIONS).exists():
        return None
    evaluated_on = read_part(folder / RUN, "data")["val"]
    if "annotations" not in evaluated_on:  # data without files of its own: nothing says that it is still the same
        return None
    is_same = str(Path(evaluated_on["annotations"]).resolve()) == str(Path(place_of(dataset)).resolve())
    is_same &= evaluated_on["images"] == len(dataset)  # a smoke run is evaluated on a few of them
    return read_json(folder / DETECTIONS) if is_same else None
