"""The table of claims: verdicts follow from the numbers, and every experiment speaks to a claim or is known not to."""

import pytest

from dyhead_book.c21_paper_code_book import claims, paper_claims
from dyhead_book.c21_paper_code_book.claims import Claim, Finding, claims_table, fewer, gain, loss
from dyhead_lab.experiments.catalogue import EXPERIMENTS, RESULTS, recorded
from dyhead_lab.experiments.record import Spread

ALL = [*paper_claims.DYNAMIC_HEAD, *paper_claims.DEFORMABLE_DETR, *paper_claims.SPARSE_DETR]
MEASURED = [claim for claim in ALL if (RESULTS / f"{claim.experiment}.json").exists()]
#: They compare our own choices, and no paper claims anything of them.
OURS = {"bccd", "fine_tuning", "forms", "offset_fits"}


@pytest.mark.parametrize(
    ("seeds", "verdict"),
    [
        ([0.02, 0.03, 0.025], claims.REPRODUCED),
        ([-0.02, -0.03, -0.025], claims.REFUTED),
        ([-0.02, 0.03, 0.01], claims.UNDECIDED),
        ([0.02], claims.FOR),
        ([-0.02], claims.AGAINST),
    ],
)
def test_a_verdict_follows_from_the_interval(seeds, verdict):
    assert gain("a", Spread.of(seeds)).verdict == verdict


def test_a_claim_that_nothing_is_lost_is_never_undecided():
    assert loss("a", Spread.of([-0.02, 0.03, 0.01])).verdict == claims.ALIKE
    assert loss("a", Spread.of([-0.02, -0.03, -0.025])).verdict == claims.REFUTED


def test_a_difference_is_told_with_its_interval():
    assert gain("a minus b", Spread.of([0.02, 0.03, 0.025])).text == "a minus b: +0.025 [+0.013, +0.037] AP"
    assert gain("a minus b", Spread.of([0.02])).text == "a minus b: +0.020 AP"
    assert gain("a minus b", None) == Finding("a minus b", claims.MISSING)


def test_costs_are_compared_as_they_are():
    small, large = Spread.of([1.0]), Spread.of([2.0])
    assert fewer("a and b", small, large, "ms") == Finding("a and b: 1 and 2 ms", claims.REPRODUCED)
    assert fewer("a and b", large, small, "ms").verdict == claims.REFUTED


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.says)
def test_the_records_have_what_the_claims_ask_for(claim):
    """A row or a number that was renamed would read as missing, as runs do that the record itself lacks."""
    findings = list(claim.findings())
    assert findings
    if any(finding.verdict == claims.MISSING for finding in findings):
        assert list(recorded(claim.experiment).missing())


def test_what_is_not_recorded_is_told_with_its_command(monkeypatch):
    claim = Claim("it helps", "+1", "Shapes", "decoder", lambda record: [])
    monkeypatch.setattr(claims, "recorded", _nothing)
    [finding] = claim.findings()
    assert finding.verdict == claims.MISSING and "dyhead-lab experiment decoder" in finding.text


def _nothing(name):
    raise claims.UserError(f"nothing is recorded of {name}")


def test_every_experiment_speaks_to_a_claim():
    assert {claim.experiment for claim in ALL} - {""} == set(EXPERIMENTS) - OURS


def test_the_table_has_a_row_for_each_finding():
    lines = claims_table(ALL).splitlines()
    assert all(line.count("|") == 6 for line in lines)
    assert len(lines) == 2 + sum(len(list(claim.findings())) for claim in ALL)
    assert all(f"| {claim.says} |" in "\n".join(lines) for claim in ALL)
