"""Check and mistakes of looking forward twice: which layers learn from the prediction of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..practice.reader_checks import Case, Mistake, Verdict, check

Rule = Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]]


def gradients(rule: Rule, changes: Sequence[Tensor], boxes: Tensor) -> list[Tensor]:
    """By how much the sum of each prediction changes with each layer's change: L tensors (L, Q, 4)."""
    own = [change.detach().clone().requires_grad_() for change in changes]
    return [_gradient(prediction, own) for prediction in rule(own, boxes)]


def _gradient(prediction: Tensor, own: list[Tensor]) -> Tensor:
    if not prediction.requires_grad:
        return torch.stack([torch.zeros_like(change) for change in own])
    found = torch.autograd.grad(prediction.sum(), own, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.stack(found)


def _seen(rule: Rule) -> Callable[..., Any]:
    """What a rule predicts, and the gradients of it."""

    def run(changes: Sequence[Tensor], boxes: Tensor) -> Any:
        predictions = rule(changes, boxes)
        if not isinstance(predictions, list | tuple) or len(predictions) != len(changes):
            return predictions  # in another form, of which the check tells; or gradients are there already
        return [x.detach() for x in predictions] + gradients(rule, changes, boxes)

    return run


def _rule(
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
    hand_on: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Rule:
    """``predict(given, change, start)``, then ``hand_on(prediction, given, change, start)``, layer by layer."""

    def imitate(changes: Sequence[Tensor], start: Tensor) -> list[Tensor]:
        predictions, given = [], start
        for change in changes:
            predictions.append(predict(given, change, start))
            given = hand_on(predictions[-1], given, change, start)
        return predictions

    return imitate


def _moved(box: Tensor, change: Tensor) -> Tensor:
    return (box.logit() + change).sigmoid()


def _from_given(given: Tensor, change: Tensor, start: Tensor) -> Tensor:
    return _moved(given, change)


def _one_layer(prediction: Tensor, given: Tensor, change: Tensor, start: Tensor) -> Tensor:
    return _moved(given.detach(), change)


twice = _rule(_from_given, _one_layer)


TWICE_MISTAKES = tuple(
    Mistake(name, hint, _seen(rule))
    for name, hint, rule in (
        (
            "every box is detached before the next layer takes it",
            "that is chapter 11: no layer learns from the next one. Detach what the *next but one* would take.",
            _rule(lambda given, change, start: _moved(given.detach(), change), _one_layer),
        ),
        (
            "nothing is detached",
            "a layer would learn from all that follow. What is handed on starts from the detached box.",
            _rule(_from_given, lambda prediction, given, change, start: prediction),
        ),
        (
            "the change is added to the box and not to its logit",
            "(box.logit() + change).sigmoid(): so a box stays between 0 and 1.",
            _rule(
                lambda given, change, start: given + change,
                lambda prediction, given, change, start: given.detach() + change,
            ),
        ),
        (
            "every layer starts from the first boxes",
            "a layer moves the box that the layer before has handed on.",
            _rule(_from_given, lambda prediction, given, change, start: start),
        ),
        (
            "the sigmoid is forgotten in the predictions",
            "predictions are boxes: they end with a sigmoid.",
            _rule(lambda given, change, start: given.logit() + change, _one_layer),
        ),
        (
            "a layer predicts the box that it was given",
            "the change of the layer itself belongs to its prediction.",
            _rule(lambda given, change, start: given, _one_layer),
        ),
    )
)


def _twice_cases(seed: int = 0) -> Iterator[Case]:
    """One layer, two, four."""
    generator = torch.Generator().manual_seed(seed)
    for layers in (1, 2, 4):
        changes = [torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(layers)]
        boxes = 0.1 + 0.8 * torch.rand(3, 4, generator=generator, dtype=torch.float64)
        yield Case(f"{layers} layer(s): predictions and their gradients", (changes, boxes))


def check_twice(rule: Rule, seed: int = 0) -> Verdict:
    """Check the reader's ``look_forward_twice(changes, boxes)``: its predictions, and which layers learn from them."""
    return check(_seen(rule), _seen(twice), _twice_cases(seed), TWICE_MISTAKES)
