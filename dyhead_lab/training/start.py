"""Fine-tuning: a training that starts from weights which were trained on other data, for other classes perhaps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import UserError


class Start(Protocol):
    """What a training can start from; ``load_trained`` gives it."""

    @property
    def model(self) -> nn.Module:
        """The trained detector."""

    @property
    def path(self) -> Path:
        """The file that its weights came from."""


def fill(model: nn.Module, trained: Mapping[str, Tensor], source: str) -> list[str]:
    """Give a new detector the weights of a trained one, all but those that belong to its classes.

    What depends on the classes has one row, or some, for each of them: layers whose first dimension differs keep what
    they were initialised with. Everything else must be there, under the same name and with the same shape.

    Args:
        model: a freshly initialised detector; it is changed.
        trained: weights by name.
        source: where they come from, for messages.

    Returns:
        names of the entries that start anew.

    Raises:
        UserError: the weights belong to another architecture; the first differences are named. Nothing is changed.
    """
    here = model.state_dict()
    differences = [f"{name} is missing" for name in here if name not in trained]
    differences += [f"{name} is left over" for name in trained if name not in here]
    anew = []
    for name in here.keys() & trained.keys():
        ours, theirs = tuple(here[name].shape), tuple(trained[name].shape)
        if ours == theirs:
            continue
        if ours and ours[1:] == theirs[1:]:
            anew.append(name)
        else:
            differences.append(f"{name} is {theirs}, here {ours}")
    if differences:
        shown = "; ".join(sorted(differences)[:3])
        raise UserError(
            f"{source} does not fit this recipe's detector: {shown} ({len(differences)} differences). "
            "Choose a recipe of the same architecture, or give its options with --set model.NAME=VALUE"
        )
    with torch.no_grad():
        model.load_state_dict({name: here[name] if name in anew else value for name, value in trained.items()})
    return sorted(anew, key=list(here).index)
