"""What the zoo has, without importing it: recipes import torch, which takes seconds.

A list appears, and a mistyped name is told, at once.
"""

from __future__ import annotations

import difflib
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


def refuse_unknown(source: str) -> None:
    """Refuse what is neither a recipe of the zoo, under its name of now or before, nor looks like a file or a path.

    Raises:
        UserError: with the name that may be meant.
    """
    if source in NAMES or source in FORMER_NAMES or source.endswith(".py") or Path(source).name != source:
        return
    near = difflib.get_close_matches(source, NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else "`dyhead-lab zoo` lists what there is"
    raise UserError(f"no recipe {source!r}; {hint}")
