"""Official checkpoints in, our modules out, and the way back."""

from .dyhead_tower import dyhead_tower, official_tower

__all__ = ["dyhead_tower", "official_tower"]
