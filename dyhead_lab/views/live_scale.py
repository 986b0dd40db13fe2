"""The scale explorer of a training: the same images, looked at anew after each checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from IPython.display import DisplayHandle, display
from torch import Tensor, nn

from ..training.checkpoint import CHECKPOINT, read
from ..training.import_paths import Import, Modules
from ..training.observer import Silent
from ..zoo.trained import recipe_of
from .scale_explorer import Numbers, ScaleExplorer, scale_numbers

AVERAGED = "module."  # what the names of averaged weights begin with


class LiveScale(Silent):
    """Scale ratios of a run, renewed each time that it writes a checkpoint. An observer of ``training.train``::

        ratios = LiveScale("runs/mine", images, ["P3", "P4", "P5", "P6"])
        ratios.show()                                                       # and then, in another cell
        train("quickstart", out="runs/mine", checkpoint_every=50, watching=[ratios])

    What is seen are the averaged weights, those that the run will keep. Choosing levels and bars works while the
    training holds the kernel. For a run in another process, call :meth:`look` when you like.

    Args:
        out: folder of the run.
        images: (3, H, W) each, in [0, 1]; 30 to 100 are enough for a histogram, and each costs a forward pass.
        levels: names of the levels, finest first.
        device: where to look; the CPU by default, so that the training keeps its memory on the GPU.
        imports: where the detector's own classes lie, for a run in another process; see
            :func:`dyhead_lab.zoo.load_trained`.

    Attributes:
        explorer: shows where the run stands; before its first checkpoint all ratios are 1.
    """

    def __init__(
        self,
        out: str | Path,
        images: Sequence[Tensor],
        levels: Sequence[str],
        device: str | torch.device = "cpu",
        imports: Iterable[Import] = (),
    ):
        self._path = Path(out) / "last.pt"
        self._images = [image.to(device) for image in images]
        self._device = device
        self._modules = Modules(imports)
        self._seen: int | None = None
        self._shown: DisplayHandle | None = None
        self.explorer = ScaleExplorer(_untrained(len(images), len(levels)), levels, images)
        self.explorer.status = "no checkpoint yet"
        self._follow()

    def show(self) -> None:
        """Show the explorer in this cell; at the end of the run with its last picture, for places without a kernel."""
        self._shown = display(self.explorer, display_id=True)

    def advance(self, iteration: int) -> None:
        self._follow()

    def end(self, message: str) -> None:
        self._follow()
        if self._shown is not None:
            self._shown.update(self.explorer)

    def _follow(self) -> None:
        """Look if there is a checkpoint that was not seen yet; to ask for the time of a file costs microseconds."""
        written = self._path.stat().st_mtime_ns if self._path.exists() else None
        if written not in (None, self._seen):
            self._seen = written
            self.look()

    def look(self) -> None:
        """Show the last checkpoint.

        Raises:
            UserError: there is none, it is damaged, or its detector is in no module imported here.
            ValueError: its detector has no Dynamic Head.
        """
        model, iteration = _averaged(self._path, self._modules)
        numbers = scale_numbers(model.to(self._device), self._images, len(self.explorer.levels))
        self.explorer.show(numbers, f"iteration {iteration}")


def _averaged(path: Path, modules: Modules) -> tuple[nn.Module, int]:
    """The detector of a checkpoint with its averaged weights, and its iteration."""
    state = read(path, CHECKPOINT)
    recipe = recipe_of(state, modules)
    with torch.random.fork_rng():  # a training in this process must not notice
        model = recipe.architecture(len(state["categories"]))
    weights = {k.removeprefix(AVERAGED): w for k, w in state["averaged"].items() if k.startswith(AVERAGED)}
    model.load_state_dict(weights)
    return model, state["iteration"]


def _untrained(images: int, levels: int) -> Numbers:
    return {"scale ratio": [[torch.ones(images)] * levels]}
