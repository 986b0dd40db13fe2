"""Trained models: weights in, a detector ready to look at pictures out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from ..detectors.official.hugging_face_files import INDEX
from ..detectors.official.hugging_face_files import WEIGHTS as PUBLISHED
from ..errors import UserError
from ..paths import find_weights
from ..published.catalogue import is_published, no_weights
from ..published.store import get
from ..training.checkpoint import WEIGHTS, checked
from ..training.former_options import as_meant
from ..training.import_paths import DATA_SETS, Import, Modules
from ..training.recipe import Recipe
from ..training.run_folder import RUN, read_json
from ..weight_files import read_weight_file
from .foreign import load_foreign
from .registry import RECIPES, by_name, current_name, names


@dataclass(frozen=True)
class Trained:
    """A trained detector and what belongs to it.

    Attributes:
        model: the detector, in evaluation mode, float32, on the CPU.
        recipe: how it was trained, with the settings of this run.
        categories: names of its classes, in the order of the labels.
        path: the file that the weights came from.
    """

    model: nn.Module
    recipe: Recipe
    categories: list[str]
    path: Path


def load_trained(source: str | Path = "quickstart", imports: Iterable[Import] = ()) -> Trained:
    """Load trained weights.

    Weights name the detector, and every class among its options, by import path. What lies in this library is found
    by itself; so is what your own program or notebook has imported or defined. Other modules are named by ``imports``:
    what a file says is never run.

    Args:
        source: a weights file, a run folder that holds ``weights.pt``, or the name of weights that the project
            ships. Or published weights: a name of :data:`~dyhead_lab.published.catalogue.CATALOGUE` or
            ``hf:OWNER/REPOSITORY``, fetched at their first use, or a file or a folder of Hugging Face, in a layout
            that :mod:`~dyhead_lab.detectors.official` lists. Their labels count the classes that have names.
        imports: where to find what the weights name outside of this library: Python files such as ``"mine.py"``, or
            modules. They are run.

    Raises:
        UserError: nothing is found there or can be fetched, the file is damaged or does not fit its recipe, or names
            a class that is in no module imported here.
    """
    path = _find(source)
    content = None if path.name.endswith(INDEX) else read_weight_file(path)
    if not isinstance(content, dict) or "format" not in content:  # nobody else writes that
        model, recipe, categories = load_foreign(path, str(source) if is_published(str(source)) else None)
        return Trained(model, recipe, categories, path)
    content = checked(content, path, WEIGHTS)
    try:
        recipe = recipe_of(content, Modules(imports))
    except UserError as error:
        raise UserError(f"{path}: {error}{_hint(path)}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # recursion: a list that contains itself
        raise UserError(f"{path}: damaged (its settings: {error})") from error
    return Trained(_filled(recipe, content, path), recipe, content["categories"], path)


def _filled(recipe: Recipe, content: Mapping[str, Any], path: Path) -> nn.Module:
    """The recipe's detector with the weights of a file, in evaluation mode."""
    try:
        model = recipe.architecture(len(content["categories"]))
    except (UserError, TypeError, ValueError) as error:
        reason = error.__cause__ or error
        if not isinstance(reason, UserError | TypeError | ValueError):  # of code that takes the place of the library's
            raise reason from None
        # an option that it does not have, or a value that it refuses
        raise UserError(f"{path}: its options do not fit the detector of recipe {recipe.name}: {reason}") from error
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        problems = " ".join(str(error).split())
        raise UserError(f"{path} does not fit recipe {recipe.name}: {problems}") from error
    return model.eval()


def recipe_of(content: Mapping[str, Any], modules: Modules) -> Recipe:
    """The recipe that weights or a checkpoint were made with.

    Args:
        content: of the file. Files from before import paths were kept name a recipe of the zoo and its options.
        modules: where to find what lies outside of this library.

    Raises:
        UserError: the zoo does not know the recipe of an early file, or an import path is refused.
    """
    kept = Recipe.defaults()
    settings = {name: value for name, value in content.get("settings", {}).items() if name in kept}
    options = modules.from_plain(content["options"] if "options" in content else content["settings"]["model"])
    if "detector" not in content:
        recipe = by_name(content["recipe"])
        return recipe.with_model(as_meant(options, recipe.detector, content["format"]))
    detector = modules.resolve(content["detector"])
    options = as_meant(options, detector, content["format"])
    name = content["recipe"]
    known = RECIPES.get(current_name(name))
    if known is not None and known.detector is detector:
        recipe = replace(known, name=name)
    else:
        recipe = Recipe(name, f"a recipe outside of the zoo, on {content['detector']}", detector, _no_data)
    dataset = _dataset(content.get("dataset"), modules)
    return replace(recipe, **{**settings, "model": options, "dataset": dataset})


def _dataset(path: str | None, modules: Modules) -> Any:
    """The data set of an import path; one that cannot be found is missed only where it is asked for."""
    if path is None:
        return _no_data
    try:
        return modules.resolve(path, DATA_SETS)
    except UserError as error:
        reason = str(error)

    def missing(split: str) -> NoReturn:
        raise UserError(f"the data of this recipe: {reason}; or name other data with --data")

    return missing


def _no_data(split: str) -> NoReturn:
    raise UserError("these weights do not say what data they were trained on; name it with --data")


def _hint(path: Path) -> str:
    """The recipe file that the run of these weights remembers."""
    run = path.parent / RUN
    file = read_json(run).get("file") if run.exists() else None
    return f". The run was trained from {file}; --import {file} brings in what it uses" if file else ""


def _find(source: str | Path) -> Path:
    path = Path(source)
    published = (path / name for name in PUBLISHED if (path / name).is_file())
    found = find_weights(source) or next(published, None)
    if found is not None:
        return found
    if is_published(str(source)):
        return get(str(source))
    if path.is_dir() and (path / "last.pt").exists():
        raise UserError(f"{path} is not trained to its end yet: run the same train command again")
    if str(source) in names():
        raise UserError(f"no weights of {source} here: dyhead-lab train {source}, then name its run folder")
    raise UserError(no_weights(str(source)))
