"""What the zoo has, without importing it: recipes import torch, which takes seconds.

A list appears, and a mistyped name is told, at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError

#: Every recipe and experiment, a line each. ``scripts/write_listing.py`` writes it; a test holds it to the zoo.
LISTING = Path(__file__).with_name("listing.tsv")


@dataclass(frozen=True)
class Listed:
    """What a list says of a recipe or an experiment.

    Attributes:
        kind: "recipe" or "experiment".
        name: by which commands find it.
        data: what the recipe is trained on; "" for an experiment.
        published_ap: AP on COCO val2017 that its source states, as a share, in digits; "" where none does.
        summary: one line: what it is.
    """

    kind: str
    name: str
    data: str
    published_ap: str
    summary: str


def listed(kind: str) -> list[Listed]:
    """All of one kind, in the order of the zoo."""
    lines = LISTING.read_text(encoding="utf-8").splitlines()
    return [line for line in (Listed(*text.split("\t")) for text in lines) if line.kind == kind]


#: In the order of ``zoo.registry.RECIPES``.
NAMES = tuple(line.name for line in listed("recipe"))
#: Names that runs, weights and records may still carry -> the recipe's name now.
FORMER_NAMES = {"resting_atss_shapes": "frozen_atss_shapes"}


def is_recipe(source: str) -> bool:
    """Whether ``source`` means a recipe: its name in the zoo, of now or before, or a Python file that defines one."""
    return source in NAMES or source in FORMER_NAMES or source.endswith(".py")


def refuse_unknown(source: str) -> None:
    """Refuse what is neither a recipe of the zoo, under its name of now or before, nor looks like a path.

    Raises:
        UserError: with the name that may be meant; or a Python file is named that is not there.
    """
    refuse_missing_python(source)
    if is_recipe(source) or Path(source).name != source:
        return
    raise unknown("recipe", source, NAMES, "`dyhead-lab zoo` lists what there is")


def refuse_unknown_experiment(source: str) -> None:
    """Refuse what is neither an experiment of this library nor a Python file that is there.

    Raises:
        UserError: with the name that may be meant.
    """
    refuse_missing_python(source)
    names = [line.name for line in listed("experiment")]
    if source not in names and not source.endswith(".py"):
        raise unknown("experiment", source, names, f"there are {', '.join(names)}")


def unknown(kind: str, source: str, names: Sequence[str], otherwise: str) -> UserError:
    """The error that names what may be meant; ``otherwise`` is said where nothing looks like it."""
    near = difflib.get_close_matches(source, names, n=1)
    return UserError(f"no {kind} {source!r}; {f'did you mean {near[0]}?' if near else otherwise}")


def refuse_missing_python(source: str) -> None:
    """Refuse the name of a Python file that is not there.

    Raises:
        UserError: ``source`` ends in ``.py``, and there is no such file.
    """
    if source.endswith(".py") and not Path(source).is_file():
        raise UserError(f"{source}: no such file")
