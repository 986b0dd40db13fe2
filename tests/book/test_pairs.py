import torch
from torch import nn

from dyhead_book.c17_write_your_own_attention.pairs import (
    CHANNELS,
    MARKS,
    SIZES,
    Finder,
    draw_pairs,
    learn_pairs,
    solved,
)
from dyhead_lab.attention import JointAttention


def draw(batch=64, seed=3):
    return draw_pairs(batch, torch.Generator().manual_seed(seed))


def test_the_twin_and_nothing_else_stands_on_the_coarsest_level():
    pairs = draw()
    assert [tuple(level.shape) for level in pairs.levels] == [(64, CHANNELS, *size) for size in SIZES]
    finest, _, coarsest = (level.flatten(2).transpose(1, 2)[..., 1:] for level in pairs.levels)
    images = torch.arange(64)[:, None]
    codes, twins = finest[images, pairs.places_BM], coarsest[images, pairs.twins_BM]
    alike = torch.cosine_similarity(codes[:, :, None], twins[:, None], dim=-1).amax(2)
    # Noise of 0.05 per channel beside codes of length 4 leaves the cosine of twins above 0.99; others are random.
    assert torch.equal(alike.argmax(1), pairs.answer_B)
    assert (alike.gather(1, pairs.answer_B[:, None]) > 0.98).all()


def test_the_answer_is_drawn_evenly():
    counts = torch.bincount(draw(2000).answer_B, minlength=MARKS) / 2000
    assert ((counts - 1 / MARKS).abs() < 0.05).all()  # five standard deviations of a share of 2000


def test_comparing_over_all_levels_solves_it_and_looking_at_one_place_does_not():
    compared = learn_pairs(lambda: JointAttention(CHANNELS), steps=150)
    guessed = learn_pairs(nn.Identity, steps=150)
    assert compared.shares[-1] > 0.8
    assert abs(guessed.shares[-1] - 1 / MARKS) < 0.12  # more than four standard deviations of a share of 256
    assert compared.steps == [0, 50, 100, 150]


def test_the_same_seed_gives_the_same_training():
    with torch.random.fork_rng():
        runs = [learn_pairs(lambda: JointAttention(CHANNELS), steps=5) for _ in range(2)]
    assert runs[0].shares == runs[1].shares
    weights = [run.finder.state_dict() for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_solved_counts_right_answers():
    class Oracle(Finder):
        def forward(self, pairs):
            return torch.eye(MARKS)[pairs.answer_B]

    assert solved(Oracle(nn.Identity()), draw()) == 1.0
