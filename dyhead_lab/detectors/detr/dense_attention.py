"""Dense multi-head attention that shows its maps to whoever looks."""

from __future__ import annotations

from torch import Tensor, nn

from ...trace import emit, is_traced


def attend(
    attention: nn.MultiheadAttention,
    query_BQC: Tensor,
    key_BNC: Tensor,
    value_BNC: Tensor,
    padding_BN: Tensor | None = None,
    maps: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Run ``attention`` (``batch_first``), and compute its maps only if somebody wants them.

    Args:
        padding_BN: True for keys that are padding, (B, N).
        maps: want the maps even when no trace is open; they take B * M * Q * N numbers.

    Returns:
        output (B, Q, C), and the maps (B, M, Q, N), which sum to 1 over N, or None.
    """
    wanted = maps or is_traced()
    output, attention_maps = attention(
        query_BQC, key_BNC, value_BNC, key_padding_mask=padding_BN, need_weights=wanted, average_attn_weights=False
    )
    if wanted:
        emit(attention, attention_maps=attention_maps)
    return output, attention_maps
