import pytest
import torch
from torch import nn

from dyhead_book.c09_self_attention_to_deformable.detr_checks import (
    CONFIG,
    DECODER_LAYER_MISTAKES,
    check_decoder_layer,
)
from dyhead_book.c09_self_attention_to_deformable.self_attention_checks import (
    ATTENTION_MISTAKES,
    MULTIHEAD_MISTAKES,
    POSITION_MISTAKES,
    attention_formula,
    check_attention,
    check_multihead,
    check_sine_positions,
)
from dyhead_lab.detectors.detr.detr import DecoderLayer
from dyhead_lab.detectors.detr.positions import sine_positions

from .planted import assert_bugs_are_caught


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (check_attention, attention_formula, ATTENTION_MISTAKES),
        (check_sine_positions, sine_positions, POSITION_MISTAKES),
    ],
    ids=["attention", "positions"],
)
def test_the_formula_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


class Batched(nn.MultiheadAttention):
    """PyTorch's module in the form that the chapter asks for."""

    def __init__(self, channels, heads):
        super().__init__(channels, heads, batch_first=True)

    def forward(self, query, key, value, padding=None):
        return super().forward(query, key, value, key_padding_mask=padding, need_weights=False)[0]


@pytest.mark.parametrize("mistake", MULTIHEAD_MISTAKES, ids=lambda mistake: mistake.name[:40])
def test_a_module_with_a_mistake_is_told_which(mistake):
    class Mistaken(Batched):
        def forward(self, *inputs):
            whole = nn.MultiheadAttention(self.embed_dim, self.num_heads, batch_first=True).double()
            whole.load_state_dict(self.state_dict())
            return mistake.imitate(whole.eval(), *inputs)

    verdict = check_multihead(Mistaken)
    assert not verdict and f"when {mistake.name}." in verdict.message


def test_pytorchs_own_module_passes():
    assert check_multihead(Batched)


def test_a_module_whose_names_differ_is_told_which_weights_do_not_fit():
    class Renamed(nn.Module):
        def __init__(self, channels, heads):
            super().__init__()
            self.out = nn.Linear(channels, channels)

    verdict = check_multihead(Renamed)
    assert not verdict and "in_proj_weight" in verdict.message and "out.weight" in verdict.message


def test_a_module_that_is_not_written_yet_is_no_error():
    class Blank(Batched):
        def forward(self, *inputs):
            raise NotImplementedError("to do")

    verdict = check_multihead(Blank)
    assert not verdict and "Still to do: to do" in verdict.message


def test_the_library_s_decoder_layer_passes():
    assert check_decoder_layer(DecoderLayer)


@pytest.mark.parametrize("mistake", DECODER_LAYER_MISTAKES, ids=lambda mistake: mistake.name[:40])
def test_a_decoder_layer_with_a_mistake_is_told_which(mistake):
    class Mistaken(DecoderLayer):
        def forward(self, *inputs):
            right = DecoderLayer(CONFIG).double().eval()
            right.load_state_dict(self.state_dict())
            return mistake.imitate(right, *inputs)

    verdict = check_decoder_layer(Mistaken)
    assert not verdict and f"when {mistake.name}." in verdict.message


def softmax_by_hand(query, key, value, padding=None):
    """Another style: einsum, exp and a sum."""
    scores = torch.einsum("bmqd,bmnd->bmqn", query, key) * query.shape[-1] ** -0.5
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    if padding is not None:
        e = e * ~padding
    weights = e / e.sum(-1, keepdim=True)
    return torch.einsum("bmqn,bmnd->bmqd", weights, value), weights


def one_head_at_a_time(query, key, value, padding=None):
    read = [attention_formula(q[:, None], k[:, None], v[:, None], padding)
            for q, k, v in zip(*(x.unbind(1) for x in (query, key, value)), strict=True)]  # fmt: skip
    return tuple(torch.cat(part, 1) for part in zip(*read, strict=True))


@pytest.mark.parametrize("answer", [softmax_by_hand, one_head_at_a_time])
def test_right_answers_in_other_styles_pass(answer):
    verdict = check_attention(answer)
    assert verdict, verdict.message
