import numpy as np
import pytest
import torch

from dyhead_book.practice.drills import drill
from dyhead_book.practice.reader_checks import Case, Mistake, check

from .planted import assert_bugs_are_caught

BUGS = [Mistake(f"{n} is added", f"do not add {n}", lambda x, n=n: x + n) for n in range(1, 8)]


@pytest.mark.parametrize("count", range(1, 8))
def test_every_bug_of_a_table_is_given_once_in_each_round(count):
    given = [float(drill(BUGS[:count], number)(0.0)) for number in range(2 * count)]
    assert sorted(given[:count]) == list(range(1, count + 1))
    assert given[count:] == given[:count]


def test_a_suspect_does_not_give_itself_away():
    suspect = drill(BUGS, 0)
    assert suspect.__name__ == "suspect" and "added" not in repr(suspect)


def test_no_bug_and_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="bugs: got none"):
        drill([], 0)
    with pytest.raises(ValueError, match="number: got -1"):
        drill(BUGS, -1)


def passes_through(x):
    return x


def check_passes_through(function, bugs=BUGS):
    return check(function, passes_through, [Case("a number", (1.0,))], bugs)


def test_the_proof_of_a_table_can_fail():
    assert_bugs_are_caught(check_passes_through, passes_through, BUGS)
    with pytest.raises(AssertionError, match="the solution fails"):
        assert_bugs_are_caught(check_passes_through, BUGS[0].imitate, BUGS)
    with pytest.raises(AssertionError, match="at least 5"):
        assert_bugs_are_caught(check_passes_through, passes_through, BUGS[:4])
    with pytest.raises(AssertionError, match="nobody notices that nothing is done"):
        assert_bugs_are_caught(
            check_passes_through, passes_through, [*BUGS, Mistake("nothing is done", "do it", passes_through)]
        )
    again = Mistake("one is added again", "do not", BUGS[0].imitate)
    with pytest.raises(AssertionError, match="one is added again: the message is"):
        assert_bugs_are_caught(lambda f: check_passes_through(f, [*BUGS, again]), passes_through, [*BUGS, again])


def flip_maps(maps):
    return [x.flip(-1) for x in maps]


MAPS = [torch.arange(12.0).view(1, 1, 3, 4), torch.arange(4.0).view(1, 1, 2, 2)]


def in_place(maps):
    maps[1] += 1
    return flip_maps(maps)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda maps: None, "returns None"),
        (lambda maps: flip_maps(maps)[:1], r"shape \(1, 1, 3, 4\), expected \[\(1, 1, 3, 4\), \(1, 1, 2, 2\)\]"),
        (lambda maps: flip_maps(maps)[::-1], "the levels come in the wrong order"),
        (lambda maps: [*flip_maps(maps)[:1], maps[1]], r"at \(0, 0, 0, 0\) of entry 1, got 0.0000.*4 of 16"),
        (in_place, "changes its argument number 1"),
        (lambda maps: "maps", "returns a str, expected numbers"),
    ],
)
def test_lists_of_tensors_are_compared_entry_by_entry(function, message):
    reversed_levels = Mistake("the levels come in the wrong order", "fine to coarse.", lambda m: flip_maps(m)[::-1])
    verdict = check(function, flip_maps, [Case("two maps", (MAPS,))], [reversed_levels])
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        assert verdict, verdict.message
    assert torch.equal(MAPS[1], torch.arange(4.0).view(1, 1, 2, 2)), "the function gets copies"


def test_results_with_gradients_and_results_of_numpy_may_be_mixed():
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert check(lambda x: x * weight, lambda x: x.numpy(), [Case("three", (torch.ones(3).double(),))], [])
    assert check(lambda x: x > 0, lambda x: np.asarray(x) > 0, [Case("signs", (np.array([1.0, -1.0]),))], [])
