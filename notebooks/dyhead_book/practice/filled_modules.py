"""Checks of the reader's own modules: filled with the weights of the library's, they must give the library's numbers.

A module is checked as a function of its options and its inputs. Cases go from the plainest to one option at a time, in
float64, so that a mistake cannot hide among roundings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .reader_checks import Case, Mistake, Verdict, check

#: Deviation of the weights that are drawn: large enough that offsets reach the next places and gates differ.
DEVIATION = 0.2

Options = Mapping[str, Any]
Build = Callable[..., nn.Module]


def drawn(build: Build, options: Options, seed: int = 0) -> nn.Module:
    """A module in float64 and evaluation mode, all its parameters drawn anew: none is zero, as at a start."""
    module = build(**options).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(DEVIATION * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def filled(build: Build, library: nn.Module, options: Options) -> nn.Module:
    """The reader's module, strictly filled with the weights of the library's.

    Raises:
        ValueError: a parameter is missing, too many, or of another shape; the message names it.
    """
    own = build(**options)
    if problem := unfit(own, library):
        raise ValueError(problem)
    own = own.double().eval()
    own.load_state_dict(library.state_dict())
    return own


def unfit(own: nn.Module, library: nn.Module) -> str | None:
    """Which weights of the library's module have no place in the reader's, or the other way; None if all fit."""
    mine, theirs = ({name: tuple(w.shape) for name, w in m.state_dict().items()} for m in (own, library))
    if missing := [name for name in theirs if name not in mine]:
        return f"no place for {_named(missing)}: the names of layers are the names of weights"
    if surplus := [name for name in mine if name not in theirs]:
        return f"{_named(surplus)} should not be there"
    wrong = [name for name in theirs if mine[name] != theirs[name]]
    return f"{wrong[0]} has shape {mine[wrong[0]]}, expected {theirs[wrong[0]]}" if wrong else None


def _named(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_module(
    own: Build,
    library: Build,
    cases: Iterable[Case],
    mistakes: Sequence[Mistake],
) -> Verdict:
    """Compare the reader's class with the library's on cases.

    Args:
        own: the reader's class.
        library: the library's, of the same options.
        cases: their arguments are the options and then the inputs. Inputs are float64.
        mistakes: each imitates the module's output, from the library's module and the inputs.
    """
    problem = None

    def run(options: Options, *inputs: Any) -> Any:
        nonlocal problem
        try:
            module = filled(own, drawn(library, options), options)
        except ValueError as error:
            problem = f"The library's weights do not fit: {error}."
            raise NotImplementedError from error  # nothing to compare
        return plain(_run(module, inputs))

    def right(options: Options, *inputs: Any) -> Any:
        return plain(_run(drawn(library, options), inputs))

    def imitating(mistake: Mistake) -> Mistake:
        def imitate(options: Options, *inputs: Any) -> Any:
            try:
                with torch.no_grad():
                    return plain(mistake.imitate(drawn(library, options), *inputs))
            except Exception:  # this mistake gives nothing on this case, so it is not what the reader made
                return float("nan")

        return Mistake(mistake.name, mistake.hint, imitate)

    verdict = check(run, right, cases, [imitating(mistake) for mistake in mistakes])
    return Verdict(False, problem) if problem else verdict


def _run(module: nn.Module, inputs: Sequence[Any]) -> Any:
    with torch.no_grad():
        return module(*inputs)


def plain(answer: Any) -> Any:
    """A pyramid as a list of its maps; anything else as it is."""
    return list(answer.values()) if isinstance(answer, Mapping) else answer
