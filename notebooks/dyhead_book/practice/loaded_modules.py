"""Checks of the reader's own modules: filled strictly with another module's weights, they must give the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from .reader_checks import Case, Mistake, Verdict, check


def check_loaded(
    build: Callable[[Any], nn.Module],
    formula: Callable[..., Any],
    cases: Iterable[Case],
    mistakes: Sequence[Mistake],
) -> Verdict:
    """:func:`.check` of a module instead of a function.

    Args:
        build: makes the reader's module of the same size as a given one.
        formula: takes the arguments of a case and returns what is right.
        cases: their first argument is the module whose weights the reader's gets, the others are its inputs; float64.
        mistakes: as in :func:`.check`; they get the same arguments.

    Returns:
        the verdict; where weights do not fit, it names them.
    """
    known = list(cases)

    def run(theirs: nn.Module, *inputs: Any) -> Any:
        with torch.no_grad():
            return _loaded(build(theirs), theirs)(*inputs)

    try:
        _loaded(build(known[0].arguments[0]), known[0].arguments[0])
    except RuntimeError as error:
        if "state_dict" in str(error):
            lines = [line.strip() for line in str(error).splitlines()[1:]]
            return Verdict(False, f"Names or shapes of the weights do not fit. {' '.join(lines)[:300]}")
    except Exception:  # whatever the reader's constructor raises: the check says it, with the line
        pass
    return check(run, formula, known, mistakes)


def _loaded(mine: nn.Module, theirs: nn.Module) -> nn.Module:
    """The reader's module with the weights of another one, strictly, in float64."""
    mine.double().load_state_dict(theirs.state_dict())
    return mine.eval()
