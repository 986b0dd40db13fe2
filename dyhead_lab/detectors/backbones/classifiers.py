"""torchvision's classifiers, which the backbones are cut from."""

from __future__ import annotations

import pickle
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import nn

from ...errors import UserError


def torchvision_model(name: str, weights: str | None, **options: Any) -> nn.Module:
    """torchvision's classifier of that name.

    Args:
        name: as ``torchvision.models.get_model`` knows it, such as ``resnet50``.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.
        options: further arguments of the classifier.

    Raises:
        ValueError: there is no model of that name, or no such weights for it.
        UserError: the weights cannot be downloaded, or what was downloaded is damaged.
    """
    try:
        return torchvision.models.get_model(name, weights=weights, **options)
    except (URLError, OSError) as error:
        raise UserError(
            f"cannot download the weights {weights} of {name} ({error}). Connect to the network, put the file into "
            f"{torch.hub.get_dir()}/checkpoints, or train from scratch with weights=None"
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if weights is None:
            raise
        raise UserError(
            f"the weights {weights} of {name} were downloaded, but their file is damaged: remove it from "
            f"{torch.hub.get_dir()}/checkpoints and start again"
        ) from error
