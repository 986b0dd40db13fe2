"""Checks and mistakes of the chapter on the Dynamic Head: what one attention adds, out of all rows of an ablation.

An ablation that trains every combination is a factorial experiment: each attention is there in half of the rows. A
table is ``{frozenset of letters: AP of each seed}``, with the letters L, S and C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check

LETTERS = "LSC"
Table = Mapping[frozenset[str], Sequence[float]]


def paired_differences(ap: Table, letter: str) -> list[float]:
    """AP with an attention less AP without it, all else and the seed being equal."""
    return [
        with_it - without
        for row in ap
        if letter in row
        for with_it, without in zip(ap[row], ap[row - {letter}], strict=True)
    ]


def _cases() -> Iterator[Case]:
    generator = np.random.default_rng(0)
    rows = [frozenset(letters) for n in range(4) for letters in combinations(LETTERS, n)]
    yield Case("one seed, each attention adds 0.1", ({row: [0.1 * len(row)] for row in rows}, "S"))
    for letter in LETTERS:
        yield Case(f"three seeds, {letter}", ({row: list(generator.uniform(0, 1, 3)) for row in rows}, letter))


ALL, NONE = frozenset(LETTERS), frozenset("")


def _pairs(ap: Table, letter: str) -> list[tuple[Sequence[float], Sequence[float]]]:
    return [(ap[row], ap[row - {letter}]) for row in ap if letter in row]


def _less(with_it: Sequence[float], without: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(with_it, without, strict=True)]


FACTORIAL_MISTAKES = (
    Mistake(
        "the attention is compared with everything off only",
        "four rows have this attention, and each has a partner that differs in nothing else: row - {letter}.",
        lambda ap, letter: _less(ap[frozenset(letter)], ap[NONE]),
    ),
    Mistake(
        "all attentions are compared with all but this one only",
        "that is one of four pairs of rows.",
        lambda ap, letter: _less(ap[ALL], ap[ALL - {letter}]),
    ),
    Mistake(
        "with is taken from without, not the other way",
        "with it minus without it.",
        lambda ap, letter: [-d for d in paired_differences(ap, letter)],
    ),
    Mistake(
        "seeds are averaged before the difference is taken",
        "a seed sets the same data order for both rows: take the difference seed by seed and keep all of them.",
        lambda ap, letter: [np.mean(a) - np.mean(b) for a, b in _pairs(ap, letter)],
    ),
    Mistake(
        "every seed is compared with every seed",
        "runs of one seed belong together: zip(ap[row], ap[row - {letter}]).",
        lambda ap, letter: [a - b for with_it, without in _pairs(ap, letter) for a in with_it for b in without],
    ),
    Mistake(
        "every row is compared with everything off",
        "the partner of a row lacks this attention and nothing else.",
        lambda ap, letter: [d for row in ap if letter in row for d in _less(ap[row], ap[NONE])],
    ),
)


def check_paired_differences(function: Callable[[Table, str], Sequence[float]]) -> Verdict:
    """Check the reader's ``paired_differences(ap, letter)``: in whatever order, as a list or an array."""

    def ordered(differences: Callable[[Table, str], Sequence[float]]) -> Callable[[Table, str], np.ndarray | None]:
        def run(ap: Table, letter: str) -> np.ndarray | None:
            answer = differences(dict(ap), letter)
            return None if answer is None else np.sort(np.asarray(answer, dtype=float).ravel())

        return run

    mistakes = [Mistake(m.name, m.hint, ordered(m.imitate)) for m in FACTORIAL_MISTAKES]
    return check(ordered(function), ordered(paired_differences), _cases(), mistakes)
