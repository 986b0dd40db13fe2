"""A Sparse DETR that refines what the decoder of another, trained detector reads.

Sparse DETR rests on an observation (Roh et al., ICLR 2022): a detector learns almost as well if its encoder refines
only the tokens that the decoder of another, trained detector refers to. The paper's detector borrows all of those, 45 %
on COCO. On Shapes a decoder refers to nearly all tokens once, so here only those that it reads most are borrowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors.detr.configured import pyramid_features
from ..detectors.detr.deformable_detr import DeformableDETR
from ..detectors.detr.sparse_detr import SparseDETR, SparseDETRConfig
from ..detectors.image_batch import pad_images
from ..zoo.trained import load_trained


class BorrowingSparseDETR(SparseDETR):
    """A Sparse DETR whose tokens are ranked by the decoder attention map of a trained detector.

    Args:
        config: with ``selection="random"``: there is no scorer of its own to learn.
        backbone: as for :class:`.SparseDETR`.
        lender: the trained detector; its tokens must be those of this one. It does not learn, and is always in
            evaluation mode.
    """

    def __init__(self, config: SparseDETRConfig, backbone: nn.Module, lender: DeformableDETR):
        super().__init__(config, backbone)
        self.lender = lender.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> BorrowingSparseDETR:
        super().train(mode)
        self.lender.eval()
        return self

    def predictions(self, images: Sequence[Tensor], **options: Any) -> dict[str, Any]:
        return super().predictions(images, token_scores=self.read_by_lender(images), **options)

    @torch.no_grad()
    def read_by_lender(self, images: Sequence[Tensor]) -> Tensor:
        """The lender's decoder attention map of these images, (B, N)."""
        batch, padding_mask = pad_images(images)
        pyramid = self.lender.flatten(self.lender.get_submodule("backbone")(batch), padding_mask)
        memory, _ = self.lender.transformer.encoder(pyramid)
        _, decoded = self.lender.predict(pyramid, memory, [])
        return self._decoder_attention_map(decoded, pyramid)


def borrowing_sparse_detr(
    classes: int,
    lender: str = "deformable_detr_tiny",
    backbone: str = "narrow",
    body: Mapping[str, Any] | None = None,
    **config: Any,
) -> BorrowingSparseDETR:
    """A :class:`BorrowingSparseDETR` that borrows from shipped weights.

    Args:
        classes: number of classes; labels are 0..classes-1.
        lender: of :func:`.load_trained`: a Deformable DETR of as many levels.
        backbone, body: as in :func:`.sparse_detr`.
        config: other fields of :class:`.SparseDETRConfig`.
    """
    features, channels = pyramid_features(backbone, None, config["levels"], body)
    trained: DeformableDETR = load_trained(lender).model  # type: ignore[assignment]
    own = SparseDETRConfig(classes=classes, feature_channels=channels, selection="random", **config)
    return BorrowingSparseDETR(own, features, trained)
