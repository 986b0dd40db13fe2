"""Checks and mistakes of the scorer: its network, the tokens that it keeps, and its loss. Tensors of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from dyhead_lab.detectors.detr.token_scorers import DAMPredictor
from dyhead_lab.detectors.detr.token_selection import keep_best, token_budget

from ..practice.reader_checks import Case, Mistake, Verdict, check

C = 8

# The network


def _scorer_cases(seed: int = 0) -> Iterator[Case]:
    """One image; two images; two images, one of them padded."""
    generator = torch.Generator().manual_seed(seed)
    for B, padded in ((1, False), (2, False), (2, True)):
        scorer = DAMPredictor(C)
        with torch.no_grad():
            for parameter in scorer.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        ignored = torch.zeros(B, 7, dtype=torch.bool)
        ignored[-1, 4:] = padded
        text = f"{B} image(s) of 7 tokens{', 3 of the last one padding' if padded else ''}"
        yield Case(text, (scorer, torch.randn(B, 7, C, generator=generator), ignored))


def _hidden(halves: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A scorer whose hidden channels are ``halves(hidden, ignored)``."""

    def imitate(scorer: Any, tokens_BNC: Tensor, ignored_BN: Tensor) -> Tensor:
        return scorer.layer2(halves(scorer.layer1(tokens_BNC), ignored_BN)).squeeze(-1)

    return imitate


def _mean(x_BNC: Tensor, ignored_BN: Tensor) -> Tensor:
    counted = (~ignored_BN)[..., None]
    return ((x_BNC * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True)).expand_as(x_BNC)


def _joined(own: Tensor, shared: Tensor) -> Tensor:
    return torch.cat([own, shared], -1)


def _with_mean_of(which: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The first half as it is, and ``which(second half, ignored)``."""
    return _hidden(lambda x, ignored: _joined(x[..., : C // 2], which(x[..., C // 2 :], ignored)))


SCORER_MISTAKES = (
    Mistake(
        "padding enters the mean",
        "an image would be scored otherwise in another batch. Count only tokens that are not ignored. The released "
        "code has this bug.",
        _with_mean_of(lambda x, ignored: x.mean(1, keepdim=True).expand_as(x)),
    ),
    Mistake(
        "no half is replaced by its mean",
        "a token then knows nothing of the others and cannot tell whether it is among the best.",
        _hidden(lambda x, ignored: x),
    ),
    Mistake(
        "all channels are replaced by their mean",
        "every token would get the same score: half of the channels stay the token's own.",
        _hidden(lambda x, ignored: _mean(x, ignored)),
    ),
    Mistake(
        "the first half becomes the mean",
        "trained weights expect the token's own channels first, the mean behind them.",
        _hidden(lambda x, ignored: _joined(_mean(x[..., : C // 2], ignored), x[..., C // 2 :])),
    ),
    Mistake(
        "the mean is taken over channels",
        "the mean is over the tokens of the image, channel by channel.",
        _with_mean_of(lambda x, ignored: x.mean(-1, keepdim=True).expand_as(x)),
    ),
    Mistake(
        "the mean is taken over the whole batch",
        "each image has a mean of its own.",
        _with_mean_of(lambda x, ignored: _mean(x.flatten(0, 1)[None], ignored.flatten()[None])[:, :1].expand_as(x)),
    ),
    Mistake(
        "the scores are squashed already",
        "they are logits: the loss takes the sigmoid.",
        lambda scorer, tokens, ignored: scorer(tokens, ignored).sigmoid(),
    ),
)


def check_scorer(own: Callable[..., nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's class ``DAMPredictor`` with weights of the library's."""

    def run(scorer: nn.Module, *arguments: Tensor) -> Tensor:
        mine = own(C)
        mine.load_state_dict(scorer.state_dict())
        return mine(*arguments)

    # float32, as the library's scores are; sums in another order differ by about 1e-6
    return check(run, lambda scorer, *a: scorer(*a), _scorer_cases(seed), SCORER_MISTAKES, tolerance=1e-5)


# Which tokens are kept


def _right(scores_BN: Tensor, padding_BN: Tensor, rho: float) -> list[Tensor]:
    budget_B = token_budget(padding_BN, rho)
    return [budget_B, keep_best(scores_BN, padding_BN, budget_B).mask(scores_BN.shape[1])]


def _keep_cases(seed: int = 0) -> Iterator[Case]:
    """No padding; a share that is a whole number of tokens; two images with different padding."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (((0,), 0.3), ((0,), 0.25), ((0, 8), 0.3), ((4, 12), 0.3), ((0, 4, 12), 0.25), ((4,), 1.0))
    for padding, rho in drawn:
        B = len(padding)
        padding_BN = torch.arange(20) >= 20 - torch.tensor(padding)[:, None]
        scores = torch.randn(B, 20, generator=generator, dtype=torch.float64)
        text = f"{B} image(s) of 20 tokens, padding {list(padding)}, rho {rho}"
        yield Case(text, (scores, padding_BN, rho))


def _budgeted(budget: Callable[[Tensor, float], Tensor]) -> Callable[..., list[Tensor]]:
    """The best ``budget(padding, rho)`` tokens of each image."""

    def imitate(scores_BN: Tensor, padding_BN: Tensor, rho: float) -> list[Tensor]:
        valid_B = (~padding_BN).sum(1)
        budget_B = torch.minimum(budget(padding_BN, rho), valid_B)
        return [budget_B, keep_best(scores_BN, padding_BN, budget_B).mask(scores_BN.shape[1])]

    return imitate


def _ranked(scores: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., list[Tensor]]:
    """The right number of tokens, by ``scores(scores, padding)``, whatever is padding."""

    def imitate(scores_BN: Tensor, padding_BN: Tensor, rho: float) -> list[Tensor]:
        budget_B, nowhere = token_budget(padding_BN, rho), torch.zeros_like(padding_BN)
        return [budget_B, keep_best(scores(scores_BN, padding_BN), nowhere, budget_B).mask(scores_BN.shape[1])]

    return imitate


KEEP_MISTAKES = (
    Mistake(
        "the budget is ceil(rho N)",
        "floor(rho N) + 1, as released: where rho N is a whole number that is one more.",
        _budgeted(lambda padding, rho: ((~padding).sum(1) * rho).ceil().long()),
    ),
    Mistake(
        "the budget is floor(rho N)",
        "one more: even the smallest rho keeps a token.",
        _budgeted(lambda padding, rho: ((~padding).sum(1) * rho).long()),
    ),
    Mistake(
        "padding counts in the budget",
        "rho is a share of the valid tokens: (~padding_BN).sum(1), not N.",
        _budgeted(
            lambda padding, rho: (torch.full_like(padding[:, 0], padding.shape[1], dtype=torch.long) * rho).long() + 1
        ),
    ),
    Mistake(
        "every image keeps as many as the largest one",
        "what an image keeps must not depend on the others of its batch. The released code has this bug.",
        _budgeted(lambda padding, rho: (((~padding).sum(1) * rho).long() + 1).max().expand(len(padding))),
    ),
    Mistake(
        "padding can be kept",
        "give padding a score of minus infinity.",
        _ranked(lambda scores, padding: scores),
    ),
    Mistake(
        "the tokens with the lowest scores are kept",
        "topk takes the largest ones.",
        _ranked(lambda scores, padding: (-scores).masked_fill(padding, -torch.inf)),
    ),
)


def check_keep(budget: Callable[..., Tensor], keep: Callable[..., Any], seed: int = 0) -> Verdict:
    """Check the reader's ``token_budget(padding_BN, rho)`` and ``keep_best(scores_BN, padding_BN, budget_B)``."""

    def run(scores_BN: Tensor, padding_BN: Tensor, rho: float) -> list[Tensor]:
        budget_B = budget(padding_BN, rho)
        return [budget_B, keep(scores_BN, padding_BN, budget_B).mask(scores_BN.shape[1])]

    return check(run, _right, _keep_cases(seed), KEEP_MISTAKES)


# The loss of the scores


def library_loss(scores_BN: Tensor, dam_BN: Tensor, padding_BN: Tensor, budget_B: Tensor) -> Tensor:
    """Binary cross-entropy with the best tokens of the map; mean over the tokens of each image, then over images."""
    wanted = keep_best(dam_BN, padding_BN, budget_B).mask(dam_BN.shape[1]).to(scores_BN)
    return _mean_loss(scores_BN, wanted, padding_BN)


def _mean_loss(scores_BN: Tensor, wanted_BN: Tensor, padding_BN: Tensor) -> Tensor:
    loss_BN = binary_cross_entropy_with_logits(scores_BN, wanted_BN, reduction="none")
    return ((loss_BN * ~padding_BN).sum(1) / (~padding_BN).sum(1)).mean()


def _loss_cases(seed: int = 0) -> Iterator[Case]:
    """One image; two images; two images, one of them padded."""
    generator = torch.Generator().manual_seed(seed)
    for padding in ((0,), (0, 0), (0, 4), (2, 6)):
        padding_BN = torch.arange(10) >= 10 - torch.tensor(padding)[:, None]
        scores, noise = torch.randn(2, len(padding), 10, generator=generator, dtype=torch.float64)
        dam = noise.exp().masked_fill(padding_BN, 0.0)
        budget = torch.tensor([3, 2][: len(padding)])
        yield Case(f"{len(padding)} image(s), padding {list(padding)}", (scores, dam, padding_BN, budget))


def _aimed(wanted: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The right loss with another target, ``wanted(scores, dam, padding, budget)``."""
    return lambda s, dam, padding, budget: _mean_loss(s, wanted(s, dam, padding, budget).to(s), padding)


def _reduced(reduce: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The right loss of every token, put together by ``reduce(loss_BN, padding_BN)``."""

    def imitate(scores: Tensor, dam: Tensor, padding: Tensor, budget: Tensor) -> Tensor:
        wanted = keep_best(dam, padding, budget).mask(dam.shape[1]).to(scores)
        return reduce(binary_cross_entropy_with_logits(scores, wanted, reduction="none"), padding)

    return imitate


def _all_best(dam: Tensor, budget: Tensor) -> Tensor:
    """The best tokens of the whole batch."""
    flat = torch.zeros(dam.numel(), dtype=torch.bool)
    flat[dam.flatten().topk(int(budget.sum())).indices] = True
    return flat.view_as(dam)


LOSS_MISTAKES = (
    Mistake(
        "the target is the map itself",
        "it is binary: 1 for the best tokens of the map, 0 for all others.",
        _aimed(lambda s, dam, padding, budget: dam / dam.amax(1, keepdim=True)),
    ),
    Mistake(
        "every token that received any attention is wanted",
        "only the best budget_B tokens of each image.",
        _aimed(lambda s, dam, padding, budget: dam > 0),
    ),
    Mistake(
        "the target is what the scorer itself would keep",
        "the decoder is the teacher: the best tokens of dam_BN, not of scores_BN.",
        _aimed(lambda s, dam, padding, budget: keep_best(s, padding, budget).mask(s.shape[1])),
    ),
    Mistake(
        "the best tokens are taken over the whole batch",
        "each image has a budget of its own.",
        _aimed(lambda s, dam, padding, budget: _all_best(dam, budget)),
    ),
    Mistake(
        "padding enters the loss",
        "the scorer would be praised for finding padding. The released code has this bug.",
        _reduced(lambda loss, padding: loss.mean()),
    ),
    Mistake(
        "the loss is a sum",
        "a mean over the tokens of each image, then over the images.",
        _reduced(lambda loss, padding: (loss * ~padding).sum()),
    ),
    Mistake(
        "the sigmoid is taken twice",
        "scores are logits, and the loss with logits takes the sigmoid itself.",
        lambda s, dam, padding, budget: library_loss(s.sigmoid(), dam, padding, budget),
    ),
    Mistake(
        "only the wanted tokens enter the loss",
        "tokens that nobody looks at must learn to say so.",
        lambda s, dam, padding, budget: _of_the_wanted(s, keep_best(dam, padding, budget).mask(s.shape[1])),
    ),
)


def _of_the_wanted(scores: Tensor, wanted: Tensor) -> Tensor:
    loss = binary_cross_entropy(scores.sigmoid(), torch.ones_like(scores), reduction="none")
    return ((loss * wanted).sum(1) / wanted.sum(1)).mean()


def check_scorer_loss(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``scorer_loss(scores_BN, dam_BN, padding_BN, budget_B)``."""
    return check(function, library_loss, _loss_cases(seed), LOSS_MISTAKES)
