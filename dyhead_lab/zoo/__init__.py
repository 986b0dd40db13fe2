"""The zoo: every recipe by name, and every trained model by name or path. The only registry."""

from .registry import get, names
from .trained import Trained, load_trained

__all__ = ["Trained", "get", "load_trained", "names"]
