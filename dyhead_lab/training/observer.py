"""Who watches a run: a bar in a terminal, live curves in a notebook, or nobody."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tqdm.auto import tqdm

from ..evaluation.coco_metric import METRICS, as_text
from .recipe import Recipe

#: One line of the log: ``iteration`` and numbers by name.
Entry = Mapping[str, Any]


class Observer(Protocol):
    """What a run tells, in this order, in the thread that trains. :func:`~.train.train` calls every method.

    A watcher never ends a run: one that fails is left out from then on, with a warning (see :class:`Together`).

    Attributes:
        tells_of_stops: whether a reader who stops the run sees it said in :meth:`end`, so that no error need say so.
    """

    @property
    def tells_of_stops(self) -> bool: ...

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

    tells_of_stops = False

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
            line = "  ".join(f"{name} {as_text(entry[name], '.3f')}" for name in list(METRICS)[:6])
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


class Together:
    """Several observers as one. The run stops when one of them asks for it.

    One that raises an exception is told nothing more: the training goes on, and a warning names the reason.
    """

    tells_of_stops = False

    def __init__(self, observers: Sequence[Observer]):
        self._observers = list(observers)

    def begin(self, recipe: Recipe, entries: Sequence[Entry]) -> None:
        self._ask_each(lambda observer: observer.begin(recipe, entries))

    def advance(self, iteration: int) -> None:
        self._ask_each(lambda observer: observer.advance(iteration))

    def note(self, entry: Entry) -> None:
        self._ask_each(lambda observer: observer.note(entry))

    def end(self, message: str) -> None:
        self._ask_each(lambda observer: observer.end(message))

    def asks_to_stop(self) -> bool:
        return any(self._ask_each(lambda observer: observer.asks_to_stop()))

    def _ask_each(self, question: Callable[[Observer], Any]) -> list[Any]:
        answers = []
        for observer in list(self._observers):
            try:
                answers.append(question(observer))
            except Exception as error:  # whatever it is, it is not worth the training
                self._observers.remove(observer)
                name = type(observer).__name__
                warnings.warn(f"{name} watches no longer, the training goes on: {_text(error)}", stacklevel=4)
        return answers


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


_default: list[Callable[[], Observer]] = [ProgressBar]


def watch_by_default(make: Callable[[], Observer]) -> None:
    """Let ``make`` say who watches a run to which no observer was handed.

    Live curves lie in a room below this one, which training cannot import; that room hands them in here.
    """
    _default[:] = [make]


def default_observer() -> Observer:
    """Who watches a run to which no observer was handed: a progress bar, or what :func:`watch_by_default` was told."""
    return _default[0]()
