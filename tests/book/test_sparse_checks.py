"""Chapter 12's checks: right answers pass in any style, each mistake is named. The answers are those of its cells."""

import numpy as np
import pytest
import torch
from torch import nn

from dyhead_book.c12_sparse_detr.attention_map_checks import MORE_MAP_MISTAKES, check_map
from dyhead_book.c12_sparse_detr.encoder_checks import ENCODER_MISTAKES, check_encoder
from dyhead_book.c12_sparse_detr.scorer_checks import (
    KEEP_MISTAKES,
    LOSS_MISTAKES,
    SCORER_MISTAKES,
    check_keep,
    check_scorer,
    check_scorer_loss,
    library_loss,
)
from dyhead_book.c12_sparse_detr.sparse_cost_checks import MACS_MISTAKES, check_encoder_macs
from dyhead_lab.detectors.detr.deformable_transformer import DeformableEncoder
from dyhead_lab.detectors.detr.sparse_detr import SparseDETRConfig
from dyhead_lab.detectors.detr.token_scorers import DAMPredictor, dam_loss
from dyhead_lab.detectors.detr.token_selection import KeptTokens, Selection, keep_best, token_budget
from dyhead_lab.evaluation.sparse_efficiency import sparse_detr_macs

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("12_sparse_detr")

FUNCTIONS = [
    (check_map, "attention_map_loops", MORE_MAP_MISTAKES),
    (check_scorer_loss, "scorer_loss", LOSS_MISTAKES),
    (check_encoder_macs, "encoder_macs", MACS_MISTAKES),
]


@pytest.mark.parametrize(("check", "name", "bugs"), FUNCTIONS, ids=[name for _, name, _ in FUNCTIONS])
def test_the_chapters_answer_passes_and_each_bug_is_caught(check, name, bugs):
    assert_bugs_are_caught(check, CELLS[name], bugs)


def test_the_modules_and_functions_of_the_chapter_pass():
    assert check_scorer(CELLS["DAMPredictor"])
    assert check_encoder(CELLS["DeformableEncoder"])
    assert check_keep(CELLS["token_budget"], CELLS["keep_best"])


@pytest.mark.parametrize("mistake", SCORER_MISTAKES, ids=lambda mistake: mistake.name)
def test_a_scorer_with_a_mistake_is_told_which(mistake):
    class Wrong(DAMPredictor):
        def forward(self, tokens_BNC, ignored_BN):
            if self.right:
                return super().forward(tokens_BNC, ignored_BN)
            self.right = True  # a mistake may call the right scorer
            wrong = mistake.imitate(self, tokens_BNC, ignored_BN)
            self.right = False
            return wrong

        right = False

    verdict = check_scorer(Wrong)
    assert not verdict and f"when {mistake.name}." in verdict.message


@pytest.mark.parametrize("mistake", ENCODER_MISTAKES, ids=lambda mistake: mistake.name)
def test_an_encoder_with_a_mistake_is_told_which(mistake):
    class Wrong(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.encoder = DeformableEncoder(layers)

        def forward(self, pyramid, kept):
            return mistake.imitate(self.encoder, pyramid, kept), []

    verdict = check_encoder(Wrong)
    assert not verdict and f"when {mistake.name}." in verdict.message


@pytest.mark.parametrize("mistake", KEEP_MISTAKES, ids=lambda mistake: mistake.name)
def test_a_choice_with_a_mistake_is_told_which(mistake):
    class Kept:
        def __init__(self, mask):
            self.mask = lambda tokens: mask

    rhos = {}

    def budget(padding_BN, rho):
        rhos["of the case"] = rho
        nothing = torch.zeros(padding_BN.shape, dtype=torch.float64)
        return mistake.imitate(nothing, padding_BN, rho)[0]

    def keep(scores_BN, padding_BN, budget_B):
        return Kept(mistake.imitate(scores_BN, padding_BN, rhos["of the case"])[1])

    verdict = check_keep(budget, keep)
    assert not verdict and f"when {mistake.name}." in verdict.message


def test_right_answers_in_another_style_pass():
    def budget_of_each(padding_BN, rho):
        counts = [int((~padding).sum()) for padding in padding_BN]
        return torch.tensor([min(int(rho * n) + 1, n) for n in counts])

    def by_sorting(scores_BN, padding_BN, budget_B):
        order = scores_BN.masked_fill(padding_BN, float("-inf")).argsort(1, descending=True)
        return KeptTokens(order[:, : budget_B.max()], torch.arange(budget_B.max()) >= budget_B[:, None])

    def loss_by_image(scores_BN, dam_BN, padding_BN, budget_B):
        losses = []
        for scores, dam, padding, budget in zip(scores_BN, dam_BN, padding_BN, budget_B, strict=True):
            wanted = torch.zeros_like(scores)
            wanted[dam.masked_fill(padding, -1).topk(int(budget)).indices] = 1
            p = scores.sigmoid()
            losses.append(-(wanted * p.log() + (1 - wanted) * (1 - p).log())[~padding].mean())
        return torch.stack(losses).mean()

    assert check_keep(budget_of_each, by_sorting)
    assert check_scorer_loss(loss_by_image)


def test_the_loss_is_the_librarys():
    generator = torch.Generator().manual_seed(0)
    scores, dam = torch.randn(2, 2, 12, generator=generator)
    padding = torch.arange(12) >= torch.tensor([12, 8])[:, None]
    dam = dam.exp() * ~padding
    budget = token_budget(padding, 0.3)
    selection = Selection(keep_best(scores, padding, budget), budget, scores, padding, padding, ((3, 4),))
    theirs = dam_loss({"dam": dam, "selection": selection})["loss_mask_prediction"]
    torch.testing.assert_close(library_loss(scores, dam, padding, budget), theirs)


def test_nothing_is_lost_inside_a_map():
    locations, weights = np.full((3, 2, 1, 2, 2), 0.5), np.full((3, 2, 1, 2), 0.25)
    dam = CELLS["attention_map_loops"](locations, weights, np.array([(4, 5)]), np.array([0]))
    assert dam.sum() == pytest.approx(weights.sum())


@pytest.mark.parametrize("rho", [0.1, 0.5])
def test_the_multiply_adds_are_those_that_are_counted(rho):
    size = (128, 160)
    config = SparseDETRConfig(encoder_layers=2, decoder_layers=1, encoder_aux_loss=False)
    N = sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in (8, 16, 32, 64))
    arguments = N, int(N * rho) + 1, config.channels, config.feedforward, config.heads, 4, 4
    assert sparse_detr_macs(rho, size, config).encoder == 2 * CELLS["encoder_macs"](*arguments)
