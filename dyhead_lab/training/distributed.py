"""Several processes that train as one: statistics over the whole batch, every validation image evaluated once.

Accelerate starts the processes and averages their gradients. For the sum to be that of one process with the whole
batch, losses per object (FCOS, ATSS, RepPoints, BorderDet, DETR's family) are divided by the objects of all processes
(``detectors.losses.mean_over_processes``); RetinaNet's are normalised image by image anyway. R-CNN draws equally many
regions from every image by chance, so its processes agree in the mean only. Each process pads its images to their own
largest. What holds of micro-batches in one process is said at ``Recipe.accumulate``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from ..data.dataset import DetectionData
from ..hardware import computing_device


def accelerator_here() -> Accelerator:
    """Accelerate's view of this process, on the device of :func:`~dyhead_lab.hardware.computing_device`.

    The recipe decides the precision. Accelerate by itself would take Apple's GPU wherever there is one.

    Raises:
        UserError: a device was chosen that is not here.
    """
    others = torch.cuda.is_available() or torch.backends.mps.is_available()
    return Accelerator(mixed_precision="no", cpu=others and computing_device().type == "cpu")


class BatchNormOfAllProcesses(nn.BatchNorm2d):
    """BatchNorm whose statistics in training are those of all processes' images together.

    PyTorch's ``SyncBatchNorm`` is the same on GPUs only. Images may differ in number and size between processes.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.float()  # sums in bfloat16 would be worth little
        axes, channels = (0, 2, 3), (1, -1, 1, 1)
        pixels = all_reduce(x.new_tensor(float(x.numel() // x.shape[1])))
        mean_C = all_reduce(x.sum(axes)) / pixels
        centred = x - mean_C.view(channels)
        variance_C = all_reduce(centred.square().sum(axes)) / pixels
        self._follow(mean_C.detach(), variance_C.detach() * pixels / (pixels - 1))
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centred * scale_C.view(channels) + self.bias.view(channels)).to(dtype)

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, unbiased_variance_C: Tensor) -> None:
        assert self.momentum is not None and self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(unbiased_variance_C, self.momentum)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with statistics over all processes in every BatchNorm that learns them."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNormOfAllProcesses
    return model


class Share:
    """One process's share of a data set: every ``world``-th image from ``rank`` on."""

    def __init__(self, dataset: DetectionData, rank: int, world: int):
        self.dataset = dataset
        self.category_ids = dataset.category_ids
        self.indices = range(rank, len(dataset), world)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.dataset[self.indices[index]]


def gather_list(items: list[Any], accelerator: Accelerator) -> list[Any]:
    """The items of all processes, in the order of the processes; on every process."""
    return gather_object(items) if accelerator.num_processes > 1 else items


@contextmanager
def one_voice() -> Iterator[None]:
    """A block in which only the main process prints. It also holds before the processes have met."""
    if os.environ.get("RANK", "0") == "0":  # set by torchrun and accelerate
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as silence, redirect_stdout(silence):
        yield
