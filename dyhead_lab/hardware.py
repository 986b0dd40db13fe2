"""What this machine is made of, as far as the set-up and the doctor must know. Needs nothing but Python itself."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NVIDIA = "0x10de"  # vendor id, https://pci-ids.ucw.cz
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
