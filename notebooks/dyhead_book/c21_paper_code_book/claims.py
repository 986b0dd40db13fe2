"""A claim of a paper beside what was measured here; the verdict follows from the recorded numbers by one rule.

So a new record changes the verdicts, and nobody has to remember to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dyhead_lab.errors import UserError
from dyhead_lab.experiments.catalogue import recorded
from dyhead_lab.experiments.record import Record, Spread

REPRODUCED = "reproduced"
REFUTED = "refuted here"
UNDECIDED = "undecided"
ALIKE = "no difference found"
FOR = "one seed, for it"
AGAINST = "one seed, against it"
MISSING = "not measured yet"
OUT_OF_REACH = "out of reach"


@dataclass(frozen=True)
class Finding:
    """A number that bears on a claim.

    Args:
        text: what was measured, in words and numbers.
        verdict: what it says to the claim: one of the words above.
    """

    text: str
    verdict: str


def gain(name: str, more: Spread | None, scale: str = "AP") -> Finding:
    """A difference that the claim says is above zero.

    Args:
        name: what is compared.
        more: the difference, signed so that a positive one speaks for the claim; None where runs are missing.
        scale: what it is a difference of.
    """
    if more is None:
        return Finding(name, MISSING)
    if (ends := more.interval()) is None:
        verdict = FOR if more.mean > 0 else AGAINST
    else:
        verdict = REPRODUCED if ends[0] > 0 else REFUTED if ends[1] < 0 else UNDECIDED
    return Finding(f"{name}: {more.change()} {scale}", verdict)


def loss(name: str, more: Spread | None) -> Finding:
    """A difference of AP that the claim says is not below zero."""
    finding = gain(name, more)
    better = {UNDECIDED: ALIKE}
    return Finding(finding.text, better.get(finding.verdict, finding.verdict))


def fewer(name: str, small: Spread | None, large: Spread | None, unit: str) -> Finding:
    """Two costs, of which the claim says that the first is smaller. They are counted, or too far apart for chance."""
    if small is None or large is None:
        return Finding(name, MISSING)
    text = f"{name}: {small.mean:.3g} and {large.mean:.3g} {unit}"
    return Finding(text, REPRODUCED if small.mean < large.mean else REFUTED)


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that an experiment can speak to.

    Args:
        says: the sentence, in our words.
        published: the paper's numbers.
        conditions: what ours was measured on, and what it would take to ask the paper's question.
        experiment: its name; "" where no experiment of ours could: the claim is out of reach.
        judge: the record -> what it says.
    """

    says: str
    published: str
    conditions: str
    experiment: str = ""
    judge: Callable[[Record], Iterable[Finding]] | None = None

    def findings(self) -> Iterable[Finding]:
        """What the shipped record says; without one, that it is missing, and how to measure it."""
        if not self.judge:
            return [Finding("", OUT_OF_REACH)]
        try:
            record = recorded(self.experiment)
        except UserError:
            return [Finding(f"`dyhead-lab experiment {self.experiment}` measures it", MISSING)]
        return self.judge(record)


def claims_table(claims: Sequence[Claim]) -> str:
    """A Markdown table: a row for each finding, the claim in the first row of its own."""
    lines = ["| claim | published | here | verdict | conditions |", "|" + " --- |" * 5]
    return "\n".join([*lines, *(row for claim in claims for row in _rows(claim))])


def _rows(claim: Claim) -> Iterator[str]:
    source = f"{claim.conditions} (`{claim.experiment}`)" if claim.experiment else claim.conditions
    told = claim.says, claim.published, source
    for finding in claim.findings():
        says, published, conditions = told
        yield f"| {says} | {published} | {finding.text} | {finding.verdict} | {conditions} |"
        told = "", "", ""
