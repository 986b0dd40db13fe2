"""Checkpoints of the world in, our detectors out, and the way back to the official ones.

Where the rows come from: "official" are the files of microsoft/DynamicHead, facebookresearch/detr,
fundamentalvision/Deformable-DETR and kakaobrain/sparse-detr. "HF" is Hugging Face's transformers: "stored" what
``save_pretrained`` writes and the hub holds, "live" what ``state_dict()`` gives in transformers 5.

| layout | DETR | Deformable DETR | Sparse DETR | Dynamic Head |
| --- | --- | --- | --- | --- |
| official | yes | plain, refined, two-stage, Efficient DETR | yes | ATSS, RetinaNet, Faster R-CNN; ATSS on Swin-T |
| HF stored: file, folder, shards | yes | plain, refined, two-stage | | |
| HF live | yes | plain, refined, two-stage | | |
| HF with timm's (torchvision's) ResNet | yes | yes | | |
| HF with transformers' own ResNet | yes | yes | | |
| mmdetection | | | | ATSS on ResNet, ``style="caffe"`` and ``"pytorch"`` |
| around any of these: | | | | |
| safetensors (a tied head stands once) | yes | yes | yes | yes |
| mmengine's file: ``meta``, ``state_dict``, ``optimizer`` | yes | yes | yes | yes |
| ``model``, ``state_dict``, ``params``; averaged: ``model_ema``, ``ema_state_dict``, ... | yes | yes | yes | yes |
| names that begin with ``module.`` | yes | yes | yes | yes |

:func:`load_any` recognises all of them. Every loader is strict: each entry is used, or the message lists what is
missing, left over or of another shape. A backbone that is not built here is called by its name. Files are read without
running what they contain; see :mod:`dyhead_lab.weight_files`.
"""

from .detr_weights import load_deformable_detr, load_detr, load_sparse_detr
from .dyhead_tower import dyhead_tower, official_tower
from .dynamic_head import load_dynamic_head, save_official
from .recognise import load_any

__all__ = [
    "dyhead_tower",
    "load_any",
    "load_deformable_detr",
    "load_detr",
    "load_dynamic_head",
    "load_sparse_detr",
    "official_tower",
    "save_official",
]
