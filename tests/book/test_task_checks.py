import numpy as np
import pytest
import torch

from dyhead_book.c06_task_aware.task_checks import (
    LEAKY_BIASES_MISTAKES,
    PAPER_COEFFICIENTS_MISTAKES,
    TASK_AWARE_MISTAKES,
    check_leaky_biases,
    check_paper_coefficients,
    check_task_aware,
    hard_sigmoid,
    leaky_biases_formula,
    paper_coefficients_solution,
    task_aware_cases,
    task_aware_loops,
)
from dyhead_lab.attention import TaskAwareAttention

from .planted import assert_bugs_are_caught


def test_bugs_of_task_aware_attention():
    assert_bugs_are_caught(check_task_aware, task_aware_loops, TASK_AWARE_MISTAKES)


def test_bugs_of_the_papers_coefficients():
    assert_bugs_are_caught(check_paper_coefficients, paper_coefficients_solution, PAPER_COEFFICIENTS_MISTAKES)


def test_bugs_of_the_leaky_biases():
    assert_bugs_are_caught(check_leaky_biases, leaky_biases_formula, LEAKY_BIASES_MISTAKES)


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.9])
def test_the_biases_make_leaky_relu(slope):
    module = TaskAwareAttention(8).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.fc2.bias.copy_(torch.from_numpy(leaky_biases_formula(8, slope)))
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    # Exact but for the rounding of (bias + 3) / 6 in float64.
    torch.testing.assert_close(module(x), torch.nn.functional.leaky_relu(x, slope), rtol=1e-12, atol=1e-12)


def test_cases_reach_the_flat_ends_of_the_sigmoid_and_several_images():
    cases = [case.arguments for case in task_aware_cases()]
    assert {len(x) for x, *_ in cases} == {1, 2, 3}
    y = np.concatenate(
        [hard_sigmoid(np.maximum(x.mean((2, 3)) @ w1.T + b1, 0) @ w2.T + b2).ravel() for x, w1, b1, w2, b2 in cases]
    )
    assert (y == 0).any() and (y == 1).any() and ((y > 0) & (y < 1)).any()
