"""Multi-head attention whose maps a trace can see."""

from __future__ import annotations

from torch import Tensor, nn

from ...trace import emit, is_traced


def attend(
    attention: nn.MultiheadAttention,
    query_BQC: Tensor,
    key_BNC: Tensor,
    value_BNC: Tensor,
    padding_BN: Tensor | None = None,
) -> Tensor:
    """Run ``attention`` (``batch_first``), and compute its maps, B * M * Q * N numbers, only while a trace is open.

    Emits ``attention_maps`` (B, M, Q, N) in the name of ``attention``.

    Args:
        padding_BN: True for keys that are padding, (B, N).

    Returns:
        (B, Q, C).
    """
    traced = is_traced()
    output, attention_maps = attention(
        query_BQC, key_BNC, value_BNC, key_padding_mask=padding_BN, need_weights=traced, average_attn_weights=False
    )
    if traced:
        emit(attention, attention_maps=attention_maps)
    return output
