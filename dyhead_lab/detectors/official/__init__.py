"""Official checkpoints in, our modules out, and the way back."""

from .detr import load_deformable_detr, load_detr, load_sparse_detr
from .dyhead_tower import dyhead_tower, official_tower
from .dynamic_head import load_dynamic_head, save_official

__all__ = [
    "dyhead_tower",
    "load_deformable_detr",
    "load_detr",
    "load_dynamic_head",
    "load_sparse_detr",
    "official_tower",
    "save_official",
]
