"""What an operator hands out: tensors that belong to nobody else."""

from __future__ import annotations

from torch import Tensor


def owned(tensor: Tensor) -> Tensor:
    """The same numbers in a tensor that is no view, copied only if its memory holds more than them.

    PyTorch refuses in-place operations, such as ``nn.ReLU(inplace=True)``, on a view that an operator made.
    """
    storage = tensor.untyped_storage()
    if storage.nbytes() != tensor.numel() * tensor.element_size():
        return tensor.clone()
    if not tensor._is_view():
        return tensor
    return tensor.new_empty(0).set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
