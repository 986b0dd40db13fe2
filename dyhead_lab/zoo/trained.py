"""Trained models: weights in, a detector ready to look at pictures out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..detectors.official.hugging_face_files import INDEX
from ..detectors.official.hugging_face_files import WEIGHTS as PUBLISHED
from ..errors import UserError
from ..paths import WEIGHTS as SHIPPED
from ..training.checkpoint import WEIGHTS, checked
from ..training.recipe import Recipe
from ..weight_files import read_weight_file
from .foreign import load_foreign
from .registry import get, names


@dataclass(frozen=True)
class Trained:
    """A trained detector and what belongs to it.

    Attributes:
        model: the detector, in evaluation mode, float32, on the CPU.
        recipe: how it was trained, with the detector's options of this run.
        categories: names of its classes, in the order of the labels.
        path: the file that the weights came from.
    """

    model: nn.Module
    recipe: Recipe
    categories: list[str]
    path: Path


def load_trained(source: str | Path = "quickstart") -> Trained:
    """Load trained weights.

    Args:
        source: a weights file, a run folder that holds ``weights.pt``, or the name of weights that the project
            ships. Or published weights, a file or a folder of Hugging Face, in a layout that
            :mod:`~dyhead_lab.detectors.official` lists: their labels count the classes that have names.

    Raises:
        UserError: nothing is found there, or the file is damaged or does not fit its recipe.
    """
    path = _find(source)
    content = None if path.name.endswith(INDEX) else read_weight_file(path)
    if not isinstance(content, dict) or "format" not in content:  # nobody else writes that
        model, recipe, categories = load_foreign(path)
        return Trained(model, recipe, categories, path)
    content = checked(content, path, WEIGHTS)
    recipe = get(content["recipe"]).with_model(content["options"])
    return Trained(_filled(recipe, content, path), recipe, content["categories"], path)


def _filled(recipe: Recipe, content: Mapping[str, Any], path: Path) -> nn.Module:
    """The recipe's detector with the weights of a file, in evaluation mode."""
    try:
        model = recipe.architecture(len(content["categories"]))
    except (TypeError, ValueError) as error:  # an option that it does not have, or a value that it refuses
        raise UserError(f"{path}: its options do not fit the detector of recipe {recipe.name}: {error}") from error
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        problems = " ".join(str(error).split())
        raise UserError(f"{path} does not fit recipe {recipe.name}: {problems}") from error
    return model.eval()


def _find(source: str | Path) -> Path:
    path = Path(source)
    candidates = [path, path / "weights.pt", SHIPPED / f"{source}.pt", *(path / name for name in PUBLISHED)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir() and (path / "last.pt").exists():
        raise UserError(f"{path} is not trained to its end yet: run the same train command again")
    if str(source) in names():
        raise UserError(f"no weights of {source} here: dyhead-lab train {source}, then name its run folder")
    raise UserError(f"no weights at {source}: expected a weights file or a run folder with weights.pt")
