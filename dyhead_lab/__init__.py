"""Attention in object detection, built chapter by chapter: Dynamic Head, deformable convolution, Sparse DETR."""

__version__ = "0.1.0"
