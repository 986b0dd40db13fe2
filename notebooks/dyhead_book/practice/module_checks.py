"""Checks of modules that the reader builds: with the library's weights they must give the library's numbers.

The reader's module is built like the library's and takes its weights strictly, so under their names and with their
shapes; then both are compared as any other function is, case by case, with mistakes that have names. All of it in
float64, so that a mistake cannot hide among roundings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from .reader_checks import Case, Mistake, Verdict, check

#: Of the weights that are drawn: large enough that offsets reach the next places and gates differ.
DEVIATION = 0.2

Options = Mapping[str, Any]
Build = Callable[..., nn.Module]


class Unfit(ValueError):
    """Weights that have no place in a module; the message names them."""


def unfit(own: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Which of the library's weights have no place in the reader's module, or the other way; None if all fit."""
    mine, theirs = ({name: tuple(w.shape) for name, w in state.items()} for state in (own.state_dict(), weights))
    problems = []
    if missing := [f"{name} of shape {shape}" for name, shape in theirs.items() if name not in mine]:
        problems.append(f"no place for {_named(missing)}")
    if surplus := [name for name in mine if name not in theirs]:
        problems.append(f"{_named(surplus)} should not be there")
    if problems:
        problems.append("the names of layers are the names of weights")
    elif wrong := [name for name in theirs if mine[name] != theirs[name]]:
        problems.append(f"{wrong[0]} has shape {mine[wrong[0]]}, expected {theirs[wrong[0]]}")
    return f"The library's weights do not fit: {'; '.join(problems)}." if problems else None


def _named(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def filled(own: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A module in float64 and evaluation mode, strictly filled with these weights.

    Raises:
        Unfit: a weight is missing, too many, or of another shape.
    """
    if problem := unfit(own, weights):
        raise Unfit(problem)
    own = own.double().eval()
    own.load_state_dict(weights)
    return own


def given(own: nn.Module, weights: Mapping[str, Tensor], *inputs: Any) -> Any:
    """What a module gives with these weights; a pyramid as a list of its maps.

    Raises:
        Unfit: the weights do not fit.
    """
    return run(filled(own, weights), *inputs)


def run(module: Callable[..., Any], *inputs: Any) -> Any:
    """What a module gives, without gradients; a pyramid as a list of its maps."""
    with torch.no_grad():
        answer = module(*inputs)
    return list(answer.values()) if isinstance(answer, Mapping) else answer


def drawn(build: Build, options: Options, seed: int = 0, deviation: float = DEVIATION) -> nn.Module:
    """A module in float64 and evaluation mode, all its parameters drawn anew: none is zero, as at a start."""
    module = build(**options).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def check_filled(
    build: Callable[[Any], nn.Module],
    right: Callable[..., Any],
    cases: Iterable[Case],
    mistakes: Sequence[Mistake],
) -> Verdict:
    """:func:`.check` of a module instead of a function.

    Args:
        build: makes the reader's module of the same size as one of the library's.
        right: takes the arguments of a case and returns what is right.
        cases: their first argument is the library's module, whose weights the reader's gets, the others are its
            inputs, float64.
        mistakes: their ``imitate`` takes the same arguments, and may change the module.

    Returns:
        the verdict; where weights do not fit, it names them.
    """
    problem = None

    def own(theirs: nn.Module, *inputs: Any) -> Any:
        nonlocal problem
        try:
            return given(build(theirs), theirs.state_dict(), *inputs)
        except Unfit as error:
            problem = str(error)
            raise NotImplementedError from error  # nothing to compare

    verdict = check(own, right, cases, [_on_copies(mistake) for mistake in mistakes])
    return Verdict(False, problem) if problem else verdict


def _on_copies(mistake: Mistake) -> Mistake:
    """The mistake on a module of its own; where it raises it gives nothing, so it is not what the reader made."""

    def imitate(theirs: nn.Module, *inputs: Any) -> Any:
        try:
            return run(mistake.imitate, deepcopy(theirs), *inputs)
        except Exception:
            return float("nan")

    return Mistake(mistake.name, mistake.hint, imitate)


def check_module(own: Build, library: Build, cases: Iterable[Case], mistakes: Sequence[Mistake]) -> Verdict:
    """:func:`check_filled` for cases of options.

    Args:
        own: the reader's class.
        library: the library's, of the same options.
        cases: their first argument is what both are built with, the others are inputs.
        mistakes: as in :func:`check_filled`.
    """
    options: dict[nn.Module, Options] = {}

    def with_module(case: Case) -> Case:
        chosen, *inputs = case.arguments
        module = drawn(library, chosen)
        options[module] = chosen
        return Case(case.description, (module, *inputs))

    return check_filled(lambda theirs: own(**options[theirs]), run, [with_module(case) for case in cases], mistakes)
