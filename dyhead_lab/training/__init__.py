"""Training: recipes, the engine that runs them, and the files they leave."""

from .recipe import Recipe
from .train import train

__all__ = ["Recipe", "train"]
