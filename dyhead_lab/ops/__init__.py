"""The two operators of the book: deformable convolution and multi-scale deformable attention."""

from .deform_conv import deform_conv2d
from .ms_deform_attn import ms_deform_attn

__all__ = ["deform_conv2d", "ms_deform_attn"]
