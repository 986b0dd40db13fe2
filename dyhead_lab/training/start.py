"""Fine-tuning: a training that starts from weights which were trained on other data, for other classes perhaps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
    def categories(self) -> list[str]:
        """Names of its classes, in the order of the labels."""

    @property
    def path(self) -> Path:
        """The file that its weights came from."""


def place_of_start(start: Start | None) -> str | None:
    """The file that a training starts from, whole: the same from whichever folder the training is continued."""
    return str(start.path.resolve()) if start else None


def begin_from(
    start: Start, model: nn.Module, categories: Sequence[str], build: Callable[[int], nn.Module]
) -> list[str]:
    """Give a new detector the weights of a trained one, all but those that belong to other classes.

    Args:
        start: the trained detector.
        model: a freshly initialised detector for ``categories``; it is changed.
        categories: names of its classes, in the order of the labels.
        build: gives such a detector for any number of classes.

    Returns:
        names of the entries that start anew: those that depend on the classes, where these have other names, or where
        the trained detector counts them otherwise.

    Raises:
        UserError: as :func:`fill`.
    """
    trained, here = start.model.state_dict(), model.state_dict()
    same_classes = list(start.categories) == list(categories)
    if same_classes and all(name in trained and trained[name].shape == here[name].shape for name in here):
        anew = set()
    else:
        other = build(len(categories) + 1).state_dict()
        anew = {name for name in here if other[name].shape != here[name].shape}
        if same_classes:
            anew = {name for name in anew if name in trained and trained[name].shape != here[name].shape}
    return fill(model, trained, str(start.path), anew)


def fill(model: nn.Module, trained: Mapping[str, Tensor], source: str, anew: Collection[str] = ()) -> list[str]:
    """Give a new detector the weights of a trained one.

    Args:
        model: a freshly initialised detector; it is changed.
        trained: weights by name.
        source: where they come from, for messages.
        anew: names of the entries that keep what they were initialised with.

    Returns:
        ``anew`` in the order of the detector.

    Raises:
        UserError: the weights belong to another architecture: they have other names or, of what does not start anew,
            other shapes. The first differences are named. Nothing is changed.
    """
    here = model.state_dict()
    differences = [f"{name} is missing" for name in here if name not in trained]
    differences += [f"{name} is left over" for name in trained if name not in here]
    for name in here.keys() & trained.keys():
        ours, theirs = tuple(here[name].shape), tuple(trained[name].shape)
        if ours != theirs and (name not in anew or ours[1:] != theirs[1:]):
            differences.append(f"{name} is {theirs}, here {ours}")
    if differences:
        shown = "; ".join(sorted(differences)[:3])
        raise UserError(
            f"{source} does not fit this recipe's detector: {shown} ({len(differences)} differences). "
            "Choose a recipe of the same architecture, or give its options with --set model.NAME=VALUE"
        )
    with torch.no_grad():
        model.load_state_dict({name: here[name] if name in anew else value for name, value in trained.items()})
    return [name for name in here if name in anew]
