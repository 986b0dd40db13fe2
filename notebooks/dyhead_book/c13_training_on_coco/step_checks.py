"""Checks of chapter 13: which parameter learns how fast, a batch in parts, and the average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..practice.reader_checks import Case, Mistake, Verdict, check

# Which parameter learns how fast


class _Sampler(nn.Module):
    sampling_parameters = ("sampling_offsets",)

    def __init__(self) -> None:
        super().__init__()
        self.sampling_offsets, self.values = nn.Linear(4, 4), nn.Linear(4, 4)


class _Toy(nn.Module):
    """A detector in small: a body, a pyramid on it, a norm, a frozen layer, offsets; they may lie in the body too."""

    def __init__(self, offsets: bool, offsets_in_body: bool) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
        self.backbone.body[0].requires_grad_(False)
        if offsets_in_body:
            self.backbone.body.append(_Sampler())
        self.backbone.fpn = nn.Conv2d(4, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.head = _Sampler() if offsets else nn.Linear(4, 4)


Groups = Callable[..., list[dict[str, Any]]]


def groups_formula(
    offsets: bool, in_body: bool, lr: float, backbone_lr: float, offset_lr: float, weight_decay: float, norms: bool
) -> Tensor:
    return _groups_variant()(offsets, in_body, lr, backbone_lr, offset_lr, weight_decay, norms)


def _groups_cases() -> Iterator[Case]:
    """Equal rates, then a slow backbone, then slow offsets, offsets in the backbone, and decay of everything."""
    rates = ((False, False, 1.0, 1.0, False), (False, False, 0.1, 1.0, False), (True, False, 0.1, 0.1, False),
             (True, True, 0.1, 0.2, False), (True, False, 0.1, 0.1, True))  # fmt: skip
    for offsets, in_body, backbone_lr, offset_lr, norms in rates:
        words = f"backbone_lr {backbone_lr}, offset_lr {offset_lr}"
        words += ", offsets in the backbone too" * in_body + ", decay_norms" * norms
        yield Case(words, (offsets, in_body, 2e-3, backbone_lr, offset_lr, 0.05, norms))


def _kinds(model: nn.Module) -> dict[str, tuple[bool, bool]]:
    """Of every parameter that learns: whether it lies in the backbone's body, and whether it says where to sample."""
    return {
        name: (name.startswith("backbone.body"), "sampling_offsets" in name)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _groups_variant(
    slow_body: bool = True,
    slow_pyramid: bool = False,
    slow_offsets: bool = True,
    both: Callable[[float, float], float] = lambda body, offset: body * offset,
    decays: Callable[[Tensor, bool], bool] = lambda parameter, offset: parameter.ndim > 1 and not offset,
    absolute: bool = False,
    obeys_norms: bool = True,
) -> Callable[..., Tensor]:
    def imitate(
        offsets: bool, in_body: bool, lr: float, backbone_lr: float, offset_lr: float, weight_decay: float, norms: bool
    ) -> Tensor:
        model = _Toy(offsets, in_body)
        parameters = dict(model.named_parameters())
        rows = []
        for name, (body, offset) in _kinds(model).items():
            slow = slow_body and (body or (slow_pyramid and name.startswith("backbone")))
            factors = (backbone_lr if slow else 1.0, offset_lr if offset and slow_offsets else 1.0)
            rate = both(*factors) * (1.0 if absolute and factors != (1.0, 1.0) else lr)
            decay = decays(parameters[name], offset) or (norms and obeys_norms)
            rows.append([rate, weight_decay if decay else 0.0])
        return torch.tensor(rows, dtype=torch.float64)

    return imitate


GROUPS_MISTAKES = (
    Mistake("the backbone learns as fast as the rest", "backbone.body learns at lr * backbone_lr.",
            _groups_variant(slow_body=False)),
    Mistake(
        "the pyramid counts as backbone",
        "only backbone.body has learned before; the pyramid on it is new, and learns at lr.",
        _groups_variant(slow_pyramid=True),
    ),
    Mistake("what predicts offsets learns as fast as the rest", "it learns at lr * offset_lr.",
            _groups_variant(slow_offsets=False)),
    Mistake(
        "offsets inside the backbone take one of the two factors only",
        "both factors hold there: lr * backbone_lr * offset_lr.",
        _groups_variant(both=min),
    ),
    Mistake(
        "biases and norms decay",
        "without decay_norms only matrices and kernels do: parameter.ndim > 1.",
        _groups_variant(decays=lambda parameter, offset: not offset),
    ),
    Mistake(
        "what predicts offsets decays",
        "decay pulls offsets to zero, and with them the places that are read; without decay_norms they are spared.",
        _groups_variant(decays=lambda parameter, offset: parameter.ndim > 1),
    ),
    Mistake("decay_norms is not looked at", "with it every parameter decays.", _groups_variant(obeys_norms=False)),
    Mistake("the factors are taken for rates", "backbone_lr and offset_lr are factors on lr.",
            _groups_variant(absolute=True)),
)  # fmt: skip


def check_parameter_groups(function: Groups) -> Verdict:
    """Check the reader's ``parameter_groups(model, lr, backbone_lr, offset_lr, weight_decay, decay_norms)``."""
    lost: list[str] = []

    def rates(offsets: bool, in_body: bool, *settings: Any) -> Tensor:
        model = _Toy(offsets, in_body)
        groups = function(model, *settings)
        if groups is None:
            return groups
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in names.values()}
        for group in groups:
            for parameter in group["params"]:
                found[names[id(parameter)]].append((group["lr"], group["weight_decay"]))
        learning = _kinds(model)
        lost.extend(f"{name} stands in {len(found[name])} groups" for name in learning if len(found[name]) != 1)
        lost.extend(f"{name} is frozen and stands in a group" for name in found if found[name] and name not in learning)
        return torch.tensor([(found[name] or [(0.0, 0.0)])[0] for name in learning], dtype=torch.float64)

    verdict = check(rates, groups_formula, _groups_cases(), GROUPS_MISTAKES)
    if lost:
        return Verdict(False, f"Every parameter that learns stands in exactly one group, and no other: {lost[0]}.")
    return verdict


# A batch in parts


class _Line(nn.Module):
    """Two losses of a linear map: the "detector" of the cases."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        wanted = torch.stack([target["boxes"].sum() for target in targets])
        error = torch.stack(list(images)) @ self.weight - wanted
        return {"square": error.square().mean(), "size": self.weight.square().sum()}


Accumulate = Callable[[nn.Module, list[Tensor], list[dict[str, Tensor]], int], dict[str, Tensor]]


def _judged(accumulate: Accumulate) -> Callable[[Tensor, Tensor, int], Any]:
    """(weight, images, parts) -> the gradient that ``accumulate`` leaves, and what it returns."""

    def run(weight: Tensor, images: Tensor, parts: int) -> Any:
        model = _Line(weight)
        targets = [{"boxes": image.abs()} for image in images]
        means = accumulate(model, list(images), targets, parts)
        if means is None:
            return None
        gradient = torch.zeros_like(weight) if model.weight.grad is None else model.weight.grad
        return [
            gradient,
            torch.stack([torch.as_tensor(means[name], dtype=torch.float64) for name in ("square", "size")]),
        ]

    return run


def _accumulate_variant(
    share: Callable[[int, int], float] = lambda parts, images: 1 / parts,
    clear: bool = False,
    only_first_loss: bool = False,
    mean_of_losses: bool = True,
    last: bool = True,
) -> Accumulate:
    def imitate(
        model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]], parts: int
    ) -> dict[str, Tensor]:
        size, means = len(images) // parts, {"square": torch.zeros(()).double(), "size": torch.zeros(()).double()}
        for first in range(0, len(images) - (0 if last or parts == 1 else size), size):
            if clear:
                model.zero_grad()
            losses = model(images[first : first + size], targets[first : first + size])
            loss = losses["square"] if only_first_loss else losses["square"] + losses["size"]
            (loss * share(parts, len(images))).backward()
            for name, value in losses.items():
                means[name] = means[name] + value.detach() / (parts if mean_of_losses else 1)
        return means

    return imitate


def _accumulate_cases(seed: int = 0) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)
    for images, parts in ((2, 1), (2, 2), (6, 3), (8, 2)):
        weight, batch = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3,), (images, 3)))
        yield Case(f"{images} images in {parts} part{'s' * (parts > 1)}", (weight, batch, parts))


ACCUMULATE_MISTAKES = tuple(
    Mistake(name, hint, _judged(imitation))
    for name, hint, imitation in (
        (
            "the losses are not divided by the number of parts",
            "backward() adds gradients: (loss / parts).backward().",
            _accumulate_variant(share=lambda parts, images: 1.0),
        ),
        (
            "the losses are divided by the number of images",
            "a loss is a mean over its images already; divide by the number of parts.",
            _accumulate_variant(share=lambda parts, images: 1 / images),
        ),
        (
            "the gradients are cleared before every part",
            "they shall add up: clear them once, before all parts.",
            _accumulate_variant(clear=True),
        ),
        (
            "the last part is left out",
            "range(0, len(images), size) reaches all of them.",
            _accumulate_variant(last=False),
        ),
        (
            "one loss alone has a gradient",
            "a detector's losses are added up before backward().",
            _accumulate_variant(only_first_loss=True),
        ),
        (
            "the losses that are returned are sums over the parts",
            "return their means, so that curves do not depend on the number of parts.",
            _accumulate_variant(mean_of_losses=False),
        ),
    )
)


def check_accumulate(function: Accumulate) -> Verdict:
    """Check the reader's ``accumulate(model, images, targets, parts)``: gradients that add up, and the mean losses."""
    return check(_judged(function), _judged(_accumulate_variant()), _accumulate_cases(), ACCUMULATE_MISTAKES)


# The average of the weights

Update = Callable[[nn.Module, nn.Module, float, int], None]


def _normed() -> nn.Module:
    """A layer and a batch norm, in which nothing is at its start."""
    norm = nn.BatchNorm1d(2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.get_buffer("running_mean"))
    return nn.Sequential(nn.Linear(3, 2), norm).double()


def _moved(update: Update) -> Callable[[int, float, int], list[Tensor]]:
    """(seed, decay, steps) -> parameters and buffers of the average after ``update``."""

    def run(seed: int, decay: float, steps: int) -> list[Tensor]:
        torch.manual_seed(seed)
        average, model = _normed(), _normed()
        before = copy.deepcopy(model)
        update(average, model, decay, steps)
        kept = zip(model.state_dict().values(), before.state_dict().values(), strict=True)
        if not all(torch.equal(a, b) for a, b in kept):
            raise ValueError("update_average changed the model; only the average may change")
        return [x.detach() for x in chain(average.parameters(), average.buffers()) if x.is_floating_point()]

    return run


def _average_variant(
    keep: Callable[[float, int], float] = lambda decay, steps: min(decay, (1 + steps) / (10 + steps)) if steps else 0.0,
    buffers: bool = True,
) -> Update:
    @torch.no_grad()
    def imitate(average: nn.Module, model: nn.Module, decay: float, steps: int) -> None:
        share = keep(decay, steps)
        olds, news = ([*module.parameters(), *(module.buffers() if buffers else ())] for module in (average, model))
        for old, new in zip(olds, news, strict=True):
            if old.is_floating_point():
                old.copy_(share * old + (1 - share) * new)

    return imitate


def _average_cases() -> Iterator[Case]:
    """Long after the start, where the decay rules; at the start, where the warm-up does; and the first step."""
    for seed, (decay, steps) in enumerate(((0.9, 1000), (0.998, 100_000), (0.998, 5), (0.5, 3), (0.998, 0))):
        yield Case(f"decay {decay} after {steps} steps", (seed, decay, steps))


AVERAGE_MISTAKES = tuple(
    Mistake(name, hint, _moved(imitation))
    for name, hint, imitation in (
        (
            "the decay is the share of the new weights",
            "average = d * average + (1 - d) * new: d is near 1.",
            _average_variant(
                keep=lambda decay, steps: 1 - min(decay, (1 + steps) / (10 + steps)) if steps else 0.0
            ),
        ),
        (
            "the memory is long from the first step on",
            "d = min(decay, (1 + steps) / (10 + steps)): else the random start stays in the average for long.",
            _average_variant(keep=lambda decay, steps: decay if steps else 0.0),
        ),
        (
            "the first step is averaged with the random start",
            "after the first step, steps = 0, the average is the model.",
            _average_variant(keep=lambda decay, steps: min(decay, (1 + steps) / (10 + steps))),
        ),
        (
            "the statistics of batch norm are left out",
            "they are buffers, not parameters: average.buffers() as well.",
            _average_variant(buffers=False),
        ),
        ("the average is replaced", "only a share 1 - d of the new weights enters.", _average_variant(
            keep=lambda decay, steps: 0.0)),
    )
)  # fmt: skip


def check_update_average(function: Update) -> Verdict:
    """Check the reader's ``update_average(average, model, decay, steps)``, which changes ``average`` in place."""
    # float64 weights: a lerp and the two products differ by rounding only
    return check(_moved(function), _moved(_average_variant()), _average_cases(), AVERAGE_MISTAKES)
