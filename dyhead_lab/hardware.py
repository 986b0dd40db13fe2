"""What this machine is made of, where it computes, and what code its GPU runs.

Needs nothing but Python itself; torch is imported only by who asks where to compute.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    import torch

NVIDIA = "0x10de"  # vendor id, https://pci-ids.ucw.cz
DEVICE = "DYHEAD_DEVICE"  # environment variable: where to compute
DISPLAY = "0x03"  # PCI base class of display controllers, among them GPUs that drive no display


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
    """Whether there is an NVIDIA GPU, with or without a driver for it.

    On Windows only a GPU with its driver is seen.

    Args:
        root: of the file system.
    """
    if sys.platform == "win32":
        return shutil.which("nvidia-smi") is not None
    if any((root / "dev").glob("nvidia[0-9]*")):  # a container may see the device, but not the bus
        return True
    if (root / "usr/lib/wsl/lib/libcuda.so.1").exists():  # Windows lends its GPU to Linux
        return True
    return any(_is_nvidia_display(device) for device in (root / "sys/bus/pci/devices").glob("*"))


def _is_nvidia_display(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text(encoding="ascii") for name in ("vendor", "class"))
    except (OSError, ValueError):
        return False
    return vendor.strip() == NVIDIA and kind.startswith(DISPLAY)


def computing_device() -> torch.device:
    """Where training and evaluation compute: on a GPU with CUDA if torch sees one, else on the processor.

    The environment variable :data:`DEVICE` chooses "cpu", "cuda" or "mps". Apple's GPU ("mps") is taken only when it is
    chosen: the operators have no kernels for it and run as the formula, and its results were never held against others.

    Raises:
        UserError: the variable names another device, or one that torch does not see.
    """
    import torch

    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    wish = os.environ.get(DEVICE) or ("cuda" if there["cuda"] else "cpu")
    if wish not in there:
        raise UserError(f"{DEVICE}: expected one of {', '.join(there)}, got {wish!r}")
    if not there[wish]:
        raise UserError(f"{DEVICE}={wish}: torch sees no such device here")
    return torch.device(wish)


def runs_on(capability: tuple[int, int], architectures: list[str]) -> bool:
    """True if code built for ``architectures`` runs on a device of this compute capability.

    Machine code (``sm_86``) runs on devices of the same major and at least that minor version; intermediate
    code (``compute_86``) on every newer one. Suffixes such as in ``sm_90a`` bind it to that very device.

    Args:
        capability: major and minor, as ``torch.cuda.get_device_capability`` gives them.
        architectures: names as of nvcc and ``torch.cuda.get_arch_list``.
    Raises:
        ValueError: a name that is no architecture.
    """
    for architecture in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", architecture)
        if found is None:
            raise ValueError(f"{architecture!r} is no architecture")
        kind, built, suffix = found[1], (int(found[2]), int(found[3])), found[4]
        newer = capability > built and not suffix and (kind == "compute" or capability[0] == built[0])
        if capability == built or newer:
            return True
    return False
