"""What the object queries of a detector with deformable attention saw on one image, query by query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR
from dyhead_lab.detectors.image_batch import pad_images, resize_image, to_pixels
from dyhead_lab.trace import Trace, trace

from .deformable_points import Points


@dataclass(frozen=True)
class ObjectQueries:
    """One image as the decoder saw it. Made by :func:`look`.

    Attributes:
        image: (3, H, W), as the detector saw it.
        outputs: what ``forward_features`` returned, for a batch of one.
        seen: the trace of that pass.
        boxes_IQ4: predicted boxes after each of the I decoder layers, (I, Q, 4) cxcywh, normalised.
        references: what each layer started from, (Q, 2) points or (Q, 4) boxes, normalised.
        sizes: (H, W) of the levels.
    """

    image: Tensor
    outputs: dict[str, Any]
    seen: Trace
    boxes_IQ4: Tensor
    references: tuple[Tensor, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def scores_Q(self) -> Tensor:
        """Score of the best class of every query."""
        return self.outputs["pred_logits"][0].sigmoid().amax(-1)

    def best(self, count: int | None = None, threshold: float = 0.0) -> list[int]:
        """The queries with the highest scores, best first: at most ``count``, none below ``threshold``."""
        order = self.scores_Q.argsort(descending=True).tolist()
        return [q for q in order if float(self.scores_Q[q]) >= threshold][:count]

    def title(self, q: int, categories: Sequence[str]) -> str:
        """Number, class and score of a query, such as "7: star 0.91"."""
        label = int(self.outputs["pred_logits"][0, q].argmax())
        return f"{q}: {categories[label]} {float(self.scores_Q[q]):.2f}"

    def points(self, q: int, layer: int = -1) -> Points:
        """Where a query read in a decoder layer."""
        layer %= len(self.boxes_IQ4)
        path = f"transformer.decoder.layers.{layer}.cross_attn"
        locations, weights = (self.seen[path, name][0][0, q] for name in ("sampling_locations", "attention_weights"))
        return Points(locations, weights, self.references[layer][q])

    def boxes_in_pixels(self, layer: int = -1) -> Tensor:
        """Predicted boxes after a decoder layer, (Q, 4) xyxy in pixels of ``image``."""
        return to_pixels(self.boxes_IQ4[layer], *self.image.shape[1:])


@torch.no_grad()
def look(model: DeformableDETR, image: Tensor, **options: Any) -> ObjectQueries:
    """Run a detector on one image and keep what its decoder saw.

    Args:
        model: in evaluation mode, with a backbone.
        image: (3, H, W) in [0, 1].
        options: passed on to ``forward_features``, such as ``rho``.

    Raises:
        ValueError: ``model`` has no backbone.
    """
    if model.backbone is None:
        raise ValueError("model: got a detector without a backbone, expected one that takes images")
    if model.detection_size is not None:
        image = resize_image(image, *model.detection_size)
    batch, padding_mask = pad_images([image])
    with trace(model) as seen:
        outputs = model.forward_features(model.backbone(batch), padding_mask, **options)
    _, shapes_L2 = next(seen.find("attention_shapes"))
    return ObjectQueries(
        image,
        outputs,
        seen,
        torch.stack([*(layer["pred_boxes"][0] for layer in outputs["aux_outputs"]), outputs["pred_boxes"][0]]),
        tuple(reference[0] for _, reference in seen.find("reference_boxes")),
        tuple((H, W) for H, W in shapes_L2.tolist()),
    )
