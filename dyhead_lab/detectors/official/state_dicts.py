"""What every official loader needs: fill a module from entries of another layout, and be strict about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

StateDict = Mapping[str, torch.Tensor]


def load_strictly(module: nn.Module, state_dict: StateDict, official_name: Callable[[str], str]) -> None:
    """Fill ``module`` from entries of another layout: every parameter, and every entry used.

    Args:
        module: what to fill.
        state_dict: entries under their official names. A linear layer that is stored as a 1x1 convolution, or
            the other way round, is reshaped.
        official_name: name in ``module`` -> official name.

    Raises:
        ValueError: an entry is missing, left over or of another shape; the message lists them.
    """
    ours = module.state_dict()
    names = {official_name(name): name for name in ours}
    problems = [f"missing {official}" for official in names if official not in state_dict]
    problems += [f"unexpected {official}" for official in state_dict if official not in names]
    values = {}
    for official in names.keys() & state_dict.keys():
        value, shape = state_dict[official], ours[names[official]].shape
        if without_trailing_ones(value.shape) != without_trailing_ones(shape):
            problems.append(f"{official} has shape {tuple(value.shape)}, expected {tuple(shape)}")
        else:
            values[names[official]] = value.reshape(shape)
    if problems:
        raise ValueError(f"state_dict does not fit {type(module).__name__}: {listing(problems)}")
    module.load_state_dict(values)


def without_trailing_ones(shape: Iterable[int]) -> tuple[int, ...]:
    """(64, 256, 1, 1) -> (64, 256)."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def listing(problems: list[str], most: int = 10) -> str:
    """The first ``most`` problems, and how many more there are."""
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more


def numbered(names: Iterable[str], prefix: str) -> int:
    """How many modules ``PREFIX0.``, ``PREFIX1.``, ... the names tell of."""
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})


def refuse_misshapen(entries: StateDict, ranks: Mapping[str, int]) -> None:
    """Refuse entries whose sizes cannot be read because they have another number of dimensions.

    Args:
        entries: under the names that ``ranks`` knows.
        ranks: regular expression for names -> dimensions.

    Raises:
        ValueError: some entries have others; the message lists them.
    """
    problems = [
        f"{name} has shape {tuple(value.shape)}, expected {rank} dimension{'s' * (rank > 1)}"
        for name, value in entries.items()
        for pattern, rank in ranks.items()
        if re.search(pattern, name) and value.dim() != rank
    ]
    if problems:
        raise ValueError(f"state_dict: {listing(problems)}")
