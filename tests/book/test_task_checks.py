"""The checks of chapter 06: right answers of several styles pass, and every mistake is named."""

import numpy as np
import pytest
import torch
from torch import nn

from dyhead_book.c06_task_aware.task_checks import (
    LEAKY_BIASES_MISTAKES,
    PAPER_TASK_MISTAKES,
    TASK_AWARE_MISTAKES,
    check_leaky_biases,
    check_paper_task,
    check_task_aware,
    hard_sigmoid,
    leaky_biases_formula,
    paper_cases,
    paper_task_formula,
    task_aware_cases,
    task_aware_formula,
)
from dyhead_book.practice.reader_checks import check
from dyhead_lab.attention import PaperTaskAwareAttention, TaskAwareAttention

from .planted import assert_bugs_are_caught


def task_aware_loops(x, w1, b1, w2, b2):
    """Task-aware attention on (B, C, H, W), one image and one channel at a time."""
    B, C, H, W = x.shape
    out = np.zeros_like(x)
    for b in range(B):
        hidden = np.maximum(w1 @ (x[b].sum((1, 2)) / (H * W)) + b1, 0)
        y = np.clip(w2 @ hidden + b2 + 3, 0, 6) / 6
        for c in range(C):
            first = 2 * y[c] * x[b, c] + y[C + c] - 0.5
            out[b, c] = np.maximum(first, (2 * y[2 * C + c] - 1) * x[b, c] + y[3 * C + c] - 0.5)
    return out


def test_bugs_of_task_aware_attention():
    def check_function(function):
        return check(function, task_aware_formula, task_aware_cases(), TASK_AWARE_MISTAKES)

    assert_bugs_are_caught(check_function, task_aware_loops, TASK_AWARE_MISTAKES)


def test_bugs_of_the_papers_form():
    def check_function(function):
        return check(function, paper_task_formula, paper_cases(), PAPER_TASK_MISTAKES)

    assert_bugs_are_caught(check_function, paper_task_formula, PAPER_TASK_MISTAKES)


def test_modules_pass_and_their_mistakes_are_named():
    class NotSquashed(TaskAwareAttention):
        def forward(self, x):
            y = self.fc2(self.fc1(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]
            a1, b1, a2, b2 = y.chunk(4, dim=1)
            return torch.maximum(2 * a1 * x + b1 - 0.5, (2 * a2 - 1) * x + b2 - 0.5)

    class OneMore(TaskAwareAttention):
        def __init__(self, channels):
            super().__init__(channels)
            self.fc3 = nn.Linear(1, 1)

    class FreshNorm(PaperTaskAwareAttention):
        def __init__(self, channels):
            super().__init__(channels)
            nn.init.ones_(self.norm.weight)

    assert check_task_aware(TaskAwareAttention) and check_paper_task(PaperTaskAwareAttention)
    assert "when an ordinary sigmoid is used." in check_task_aware(NotSquashed).message
    assert "fc3.weight, fc3.bias should not be there" in check_task_aware(OneMore).message
    assert "norm.weight does not start at zero" in check_paper_task(FreshNorm).message


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
