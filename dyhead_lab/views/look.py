"""``look``: one image, any detector; choose an object and see what the network attended to while it found it.

Everything is computed before it is shown, so that the same view works in a notebook and as a page without Python.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import traitlets
from torch import Tensor, nn

from ..data.images import exif_orientation, read_image, upright
from ..data.photographs import PHOTOGRAPHS, photograph
from ..detectors.detr.set_detector import SetDetector
from ..detectors.image_batch import resize_image
from ..detectors.inference import prepared
from ..errors import UserError
from ..paths import legible
from ..trace import Trace, trace
from ..training.import_paths import Import
from ..zoo import Trained, load_trained
from .explorer import Explorer, image_url
from .figures import Picture, detections_figure
from .look_panels import Objects, Panel, panels, tokens_panel
from .page import write_page
from .sampling_layers import valid_part
from .sparse_tokens import read_sparse_pass

LARGEST = 900  # pixels of the longer side of the picture that is kept
#: The same of the picture that a detector sees which was trained on small pictures and takes each as it is: its dense
#: attention grows with the square of the pixels.
LARGEST_SEEN = 640
MOST = 12  # objects that can be asked about
FEWEST = 3  # shown although their scores are low, where nothing reaches the threshold
RHOS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # keeping ratios of a sparse detector that are tried
PICTURE_HEIGHT = 480  # pixels of the still picture


class Look(Explorer, static="look"):
    """An image with what was found in it, and for each object what the network looked at; see :func:`look`.

    Args:
        trained: the detector, on the device of ``image``.
        image: (3, H, W) in [0, 1].
        threshold: least score of an object.
        title: what the image is called.
    """

    scene: Any = traitlets.Dict(help="all that is drawn: source, size, objects, panels").tag(sync=True)
    chosen = traitlets.Int(0, help="the object that is asked about").tag(sync=True)

    def __init__(self, trained: Trained, image: Tensor, threshold: float = 0.3, title: str = "image"):
        self._categories = trained.categories
        trained = replace(trained, model=prepared(trained.model))
        seen, found = _run(trained.model, image)
        best = _best(found, threshold)
        objects = _objects(best, image)
        sparse = [_tokens(trained, image, threshold)] if _is_sparse(seen) else []
        self._image = fitting(image, LARGEST)
        scale = self._image.shape[-1] / image.shape[-1]
        self._shown = {**best, "boxes": best["boxes"] * scale}
        scene = {
            "title": title,
            "weights": trained.recipe.name,
            "source": image_url(self._image, LARGEST),
            "size": list(image.shape[1:]),
            "valid": [round(share, 4) for share in valid_part(seen, 0).tolist()],
            "threshold": threshold,
            "objects": boxes_of(best, trained.categories, image),
            "panels": [*panels(seen, objects), *sparse],
        }
        super().__init__(scene=scene)

    def page(self, path: str | Path) -> None:
        """Write the view as one HTML file that opens from disk, without Python and without a network.

        Raises:
            UserError: it cannot be written.
        """
        write_page(self, Path(path), f"{self.scene['title']}: what {self.scene['weights']} looked at")

    def picture(self) -> Picture:
        names = [entry["name"] for entry in self.scene["objects"]]
        alt = f"{self.scene['title']} with {len(names)} objects: {', '.join(names) or 'none'}."
        figure = detections_figure([self._image.cpu()], [self._shown], self._categories, 0, PICTURE_HEIGHT)
        return Picture(figure, alt, colours=256)


def look(
    image: str | Path | Tensor,
    weights: str | Path | Trained = "everyday",
    threshold: float = 0.3,
    imports: Iterable[Import] = (),
) -> Look:
    """See what a detector finds in an image, and what it looked at: choose an object in the picture.

    Args:
        image: a file, the name of one of the book's photographs (:data:`~dyhead_lab.data.photographs.PHOTOGRAPHS`), or
            a tensor (3, H, W) in [0, 1]. A photograph is turned upright as its camera says.
        weights: what ``load_trained`` takes, or what it gave.
        threshold: least score of an object; where none reaches it, the best three are shown.
        imports: as in ``load_trained``.

    Returns:
        a widget for a notebook; ``.page("look.html")`` writes it as a page.

    Raises:
        UserError: the image or the weights cannot be read, or the threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold: got {threshold}, expected a number from 0 to 1")
    trained = weights if isinstance(weights, Trained) else load_trained(weights, imports)
    pixels, title = opened(image, trained.model)
    return Look(trained, pixels, threshold, title)


def opened(image: str | Path | Tensor, model: nn.Module) -> tuple[Tensor, str]:
    """An image (3, H, W) in [0, 1] of a size that ``model`` can be traced on, and what it is called.

    Raises:
        UserError: it cannot be read.
    """
    pixels, title = _read(image)
    takes_any_size = isinstance(model, SetDetector) and model.detection_size is None
    return fitting(pixels, LARGEST_SEEN) if takes_any_size else pixels, title


def _read(image: str | Path | Tensor) -> tuple[Tensor, str]:
    if isinstance(image, Tensor):
        if image.ndim != 3 or len(image) != 3 or not image.is_floating_point():
            raise UserError(f"image: got {image.dtype} {tuple(image.shape)}, expected floats (3, H, W) in [0, 1]")
        return image, "image"
    if str(image) in PHOTOGRAPHS and not Path(image).is_file():  # a folder may be called so, too
        return photograph(str(image)), str(image)
    return upright(read_image(image), exif_orientation(image)), legible(Path(image).name)


def _run(model: nn.Module, image: Tensor) -> tuple[Trace, dict[str, Tensor]]:
    with torch.inference_mode(), trace(model) as seen:
        (found,) = model([image])
    return seen, found


def fitting(image: Tensor, largest: int) -> Tensor:
    """An image (3, H, W), made smaller where a side has more than ``largest`` pixels."""
    return resize_image(image, largest, largest) if max(image.shape[1:]) > largest else image


def _objects(found: dict[str, Tensor], image: Tensor) -> Objects:
    H, W = image.shape[1:]
    boxes = found["boxes"].cpu()
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / boxes.new_tensor([W, H])
    queries = found["queries"].cpu() if "queries" in found else None
    return Objects(centres.clamp(0, 1), queries)


def _best(found: dict[str, Tensor], threshold: float) -> dict[str, Tensor]:
    """At most :data:`MOST` objects, best first; at least :data:`FEWEST` where there are as many."""
    finite = found["boxes"].isfinite().all(1) & found["scores"].isfinite()
    order = found["scores"].where(finite, -torch.inf).argsort(descending=True)[: int(finite.sum())]
    count = max(int((found["scores"][order] >= threshold).sum()), min(FEWEST, len(order)))
    return {name: values[order[: min(count, MOST)]].cpu() for name, values in found.items()}


def boxes_of(found: dict[str, Tensor], categories: list[str], image: Tensor) -> list[dict[str, Any]]:
    """Objects as the page draws them: ``box`` (x1, y1, x2, y2) in shares of the image, ``name``, ``score``.

    Where the detector has object queries, ``query`` is the one that found it, counted from 0.
    """
    H, W = image.shape[1:]
    size = torch.tensor([W, H, W, H])
    rows = zip(found["boxes"] / size, found["labels"].tolist(), found["scores"].tolist(), strict=True)
    objects = [
        {"box": [round(v, 4) for v in box.tolist()], "name": categories[label], "score": round(score, 2)}
        for box, label, score in rows
    ]
    queries = found["queries"].tolist() if "queries" in found else []
    return [one | {"query": query} for one, query in zip(objects, queries, strict=True)] if queries else objects


def _is_sparse(seen: Trace) -> bool:
    return next(seen.find("kept_tokens"), None) is not None and next(seen.find("dam"), None) is not None


def _tokens(trained: Trained, image: Tensor, threshold: float) -> Panel:
    """The sparse detector again, at every ratio of :data:`RHOS`; its own ratio is put back."""
    model: Any = trained.model
    before, passes = model.rho, {}
    try:
        for rho in sorted({*RHOS, float(before)}):
            model.rho = rho
            seen, found = _run(model, image)
            shown = boxes_of(_best(found, threshold), trained.categories, image)
            passes[rho] = (read_sparse_pass(seen, found), shown)
    finally:
        model.rho = before
    return tokens_panel(passes)
