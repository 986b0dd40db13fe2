"""Who watches a run: a bar in a terminal, live curves in a notebook, or nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tqdm.auto import tqdm

from ..evaluation.coco import METRICS
from .recipe import Recipe

#: One line of the log: ``iteration`` and numbers by name.
Entry = Mapping[str, Any]


class Observer(Protocol):
    """What a run tells, in this order, in the thread that trains. :func:`~.train.train` calls every method."""

    def begin(self, recipe: Recipe, entries: Sequence[Entry]) -> None:
        """The run starts. ``entries`` is its log so far: not empty where it continues."""

    def advance(self, iteration: int) -> None:
        """An iteration is done; called after each one, so it must be cheap."""

    def note(self, entry: Entry) -> None:
        """A line was added to the log."""

    def asks_to_stop(self) -> bool:
        """Whether the reader wants the run to be saved and stopped; asked after each iteration."""

    def end(self, message: str) -> None:
        """The run is over: finished, stopped or failed. ``message`` says which."""


class Silent:
    """Nobody watches."""

    def begin(self, recipe: Recipe, entries: Sequence[Entry]) -> None: ...
    def advance(self, iteration: int) -> None: ...
    def note(self, entry: Entry) -> None: ...
    def end(self, message: str) -> None: ...

    def asks_to_stop(self) -> bool:
        return False


class ProgressBar(Silent):
    """A line in a terminal: iteration, time left, loss and learning rate; a line more for each evaluation."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def begin(self, recipe: Recipe, entries: Sequence[Entry]) -> None:
        done = entries[-1]["iteration"] if entries else 0
        self._bar = tqdm(total=recipe.iterations, initial=done, desc=recipe.name)

    def advance(self, iteration: int) -> None:
        self._started.update(iteration - self._started.n)

    def note(self, entry: Entry) -> None:
        if "AP" in entry:
            line = "  ".join(f"{name} {entry[name]:.3f}" for name in list(METRICS)[:6])
            self._started.write(f"iteration {entry['iteration']}: {line}")
        if "loss" in entry:
            self._started.set_postfix(loss=f"{entry['loss']:.3f}", lr=f"{entry['lr']:.1e}")

    def end(self, message: str) -> None:
        self._started.close()
        print(message)

    @property
    def _started(self) -> tqdm:
        if self._bar is None:
            raise RuntimeError("ProgressBar: begin() comes first")
        return self._bar
