"""Attention in object detection, built chapter by chapter: Dynamic Head, deformable convolution, Sparse DETR.

What most users need stands at the door::

    import dyhead_lab

    trained = dyhead_lab.load_trained("quickstart")       # shipped weights, a weights file or a run folder
    image = dyhead_lab.read_image("photo.jpg")            # (3, H, W) in [0, 1]
    with dyhead_lab.trace(trained.model) as seen:         # what the model saw
        [found] = trained.model([image])                  # boxes (n, 4) in pixels, scores (n,), labels (n,)
    dyhead_lab.SamplingPoints(seen, image)                # in a notebook: an explorer of every sampling point
    dyhead_lab.look("photo.jpg").page("look.html")        # what a detector of photographs found, and looked at
    dyhead_lab.train("quickstart", data="my_dataset")     # a recipe of the zoo, or your own, on a folder of data

- models: ``load_trained``, ``zoo`` (every recipe by name), ``Recipe``, ``train``, ``evaluate``
- data: ``read_image``, ``coco_folder``
- looking inside: ``look`` (an image of yours, any detector), ``look_upload`` (a button for it), ``trace``,
  ``SamplingPoints``, ``ScaleExplorer``, ``explore`` (any explorer, any weights by name), ``detections_figure``
- building blocks: ``deform_conv2d``, ``ms_deform_attn``, ``DyHead``, ``MultiScaleDeformableAttention``
- ``UserError``: a mistake that you can mend; its message says how

Each is imported when it is first used: importing the package takes no time, importing torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import zoo
    from .attention.deformable import MultiScaleDeformableAttention
    from .attention.dyhead import DyHead
    from .data.coco import coco_folder
    from .data.images import read_image
    from .errors import UserError
    from .evaluation.coco_metric import evaluate
    from .ops.deform_conv import deform_conv2d
    from .ops.ms_deform_attn import ms_deform_attn
    from .trace import trace
    from .training.recipe import Recipe
    from .training.train import train
    from .views.explore import explore
    from .views.figures import detections_figure
    from .views.look import look
    from .views.look_upload import look_upload
    from .views.sampling_points import SamplingPoints
    from .views.scale_explorer import ScaleExplorer
    from .zoo import load_trained

__all__ = [
    "DyHead",
    "MultiScaleDeformableAttention",
    "Recipe",
    "SamplingPoints",
    "ScaleExplorer",
    "UserError",
    "coco_folder",
    "deform_conv2d",
    "detections_figure",
    "evaluate",
    "explore",
    "load_trained",
    "look",
    "look_upload",
    "ms_deform_attn",
    "read_image",
    "trace",
    "train",
    "zoo",
]

#: name -> the module that it comes from. ``trace`` and ``zoo`` are modules themselves.
_MODULES = {
    "DyHead": "attention.dyhead",
    "MultiScaleDeformableAttention": "attention.deformable",
    "Recipe": "training.recipe",
    "SamplingPoints": "views.sampling_points",
    "ScaleExplorer": "views.scale_explorer",
    "UserError": "errors",
    "coco_folder": "data.coco",
    "deform_conv2d": "ops",
    "detections_figure": "views.figures",
    "evaluate": "evaluation.coco_metric",
    "explore": "views.explore",
    "look": "views.look",
    "look_upload": "views.look_upload",
    "load_trained": "zoo",
    "ms_deform_attn": "ops",
    "read_image": "data.images",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """What stands at the door comes when it is asked for; importing the package must stay quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "train":  # these tell it what the names of recipes mean, and who watches in a notebook
        import_module(".zoo", __name__)
        import_module(".views.live", __name__)
    if name not in _MODULES:
        return import_module(f".{name}", __name__)
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
