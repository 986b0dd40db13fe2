"""Checks of modules that the reader builds: the library's parameters under the library's names, and equal results.

A case holds what the module is built with, the weights it is filled with, and what it is called with. So one function
of such a case stands for the whole module, and :func:`~.reader_checks.check` compares it like any other function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .reader_checks import Case, Mistake, Verdict, check

Build = Callable[..., nn.Module]


def module_case(
    description: str,
    library: Build,
    options: tuple[Any, ...],
    inputs: tuple[Any, ...],
    seed: int,
    spread: float = 1.0,
) -> Case:
    """A case of :func:`check_module`.

    Args:
        library: the class that the reader builds anew.
        options: what both are built with.
        inputs: what both are called with.
        seed: of the weights, which are normal numbers: none of them stays at the value that it starts with.
        spread: their standard deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    state = library(*options).state_dict()
    weights = {
        name: spread * torch.randn(w.shape, generator=generator, dtype=torch.float64) for name, w in state.items()
    }
    return Case(description, (options, weights, inputs))


def running(build: Build) -> Callable[[tuple[Any, ...], dict[str, Tensor], tuple[Any, ...]], Any]:
    """A module as a function of a case's arguments; also what makes a :class:`~.reader_checks.Mistake` of a module."""

    def run(options: tuple[Any, ...], weights: dict[str, Tensor], inputs: tuple[Any, ...]) -> Any:
        module = build(*options).double()
        module.load_state_dict(weights)
        with torch.no_grad():
            return module(*inputs)

    return run


def check_module(
    build: Build, library: Build, cases: Iterable[Case], mistakes: Sequence[Mistake], tolerance: float = 1e-10
) -> Verdict:
    """Compare the reader's module with the library's.

    Args:
        build: the reader's class.
        library: the library's.
        cases: of :func:`module_case`.
        mistakes: their ``imitate`` is what :func:`running` gives.
        tolerance: as in :func:`~.reader_checks.check`.
    """
    cases = list(cases)
    options, weights, _ = cases[0].arguments
    problem = other_parameters(build(*options), weights)
    if problem:
        return Verdict(False, problem)
    return check(running(build), running(library), cases, mistakes, tolerance)


def other_parameters(module: nn.Module, weights: dict[str, Tensor]) -> str | None:
    """In which parameter a module differs from the library's, or None."""
    has = {name: tuple(w.shape) for name, w in module.state_dict().items()}
    wanted = {name: tuple(w.shape) for name, w in weights.items()}
    for name, shape in wanted.items():
        if name not in has:
            return f"The module has no parameter {name} of shape {shape}: trained weights are found by their names."
        if has[name] != shape:
            return f"The parameter {name} has shape {has[name]}, expected {shape}."
    more = sorted(has.keys() - wanted.keys())
    return f"The module has a parameter {more[0]} that the library's has not." if more else None
