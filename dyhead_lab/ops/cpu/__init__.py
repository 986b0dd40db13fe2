"""The production CPU path: what ``backend="numba"``, the default for tensors on the CPU, computes with.

``fast_deform_conv.py`` and ``fast_ms_deform_attn.py`` hold the two operators. They lean on ``pixels.py`` (where a
sample falls), ``threads.py`` (who computes which range), ``image_rows.py`` and ``products.py`` (how images and
products are laid out for the machine), and on two hand-written parts, each of which plain code can stand in for
(``parts.py``): ``lanes.py`` and ``block_cache.py``. The reference that they are tested against is
``ops/numba_reference``.
"""
