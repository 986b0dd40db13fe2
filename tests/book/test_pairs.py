import torch

from dyhead_book.c17_write_your_own_attention.pairs import CHANNELS, MARKS, SIZES, draw_pairs, solved


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


def test_solved_counts_right_answers():
    assert solved(lambda pairs: torch.eye(MARKS)[pairs.answer_B], draw()) == 1.0
    assert solved(lambda pairs: -torch.eye(MARKS)[pairs.answer_B], draw()) == 0.0
