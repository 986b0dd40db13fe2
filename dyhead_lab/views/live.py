"""Live curves: a training that is watched in a notebook cell, and recorded logs that play again.

Once this file is imported, as ``dyhead_lab.train`` does, a training in a notebook shows them by itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure

from ..errors import UserError
from ..paths import SAMPLE
from ..training.checkpoint import RunLog
from ..training.observer import Entry, Observer, ProgressBar, watch_by_default
from ..training.recipe import Recipe
from .curves import AP, LOSS, curves, run_figure
from .explorer import Explorer
from .figures import INK, Picture

#: The log of a real run: recipe bccd, one CPU core.
RECORDED = SAMPLE / "bccd_log.jsonl"

POINTS = 200  # of a curve; more cannot be seen
UPDATE = 0.5  # seconds between two updates of the page


class LiveCurves(Explorer, static="live"):
    """The curves of a training, time left, and a button that saves and stops. An observer of ``training.train``.

    Args:
        entries: lines of a log.
        iterations: where the run ends.
        replay: play a finished log: the page has a slider and a play button in place of the stop button.

    In JupyterLab the button interrupts the kernel, as JupyterLab's own button does: the run takes that as a request
    (see ``training.interrupt``). Elsewhere it sends a message, which counts once the notebook delivers it.
    """

    curves: Any = traitlets.Dict().tag(sync=True, to_json=lambda curves, _widget: _in_order(curves))
    iteration = traitlets.Int(0).tag(sync=True)
    iterations = traitlets.Int(1).tag(sync=True)
    status = traitlets.Unicode("").tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    replay = traitlets.Bool(False).tag(sync=True)
    stop = traitlets.Bool(False, help="the reader wants the run to stop").tag(sync=True)

    def __init__(self, entries: Sequence[Entry] = (), iterations: int = 1, replay: bool = False):
        self._entries = list(entries)
        self._shown_at = self._begun_at = 0.0
        self._begun = 0
        super().__init__(iterations=iterations, replay=replay)
        self._show_curves()

    tells_of_stops = True

    # What a training calls

    def begin(self, recipe: Recipe, entries: Sequence[Entry]) -> None:
        self._entries = list(entries)
        self._begun = entries[-1]["iteration"] if entries else 0
        self._begun_at = time.perf_counter()
        self.iterations, self.iteration, self.running = recipe.iterations, self._begun, True
        self.status = f"{recipe.name}: starting"
        self._show_curves()
        self._display = display(self, display_id=True)

    def advance(self, iteration: int) -> None:
        now = time.perf_counter()
        if now - self._shown_at < UPDATE:
            return
        self._shown_at = now
        seconds = (now - self._begun_at) / (iteration - self._begun) * (self.iterations - iteration)
        self.iteration = iteration
        self.status = f"iteration {iteration} of {self.iterations}, {duration(seconds)} left"

    def note(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._show_curves()

    def asks_to_stop(self) -> bool:
        return self.stop

    def end(self, message: str) -> None:
        self.iteration = self._entries[-1]["iteration"] if self._entries else self.iteration
        self.status, self.running = message, False
        self._display.update(self)  # with the finished picture, which stays when the kernel is gone

    # What is shown

    def _show_curves(self) -> None:
        self.curves = {
            panel: {name: list(curve.thinned(POINTS)) for name, curve in lines.items()}
            for panel, lines in curves(self._entries).items()
        }

    def picture(self) -> Picture:
        """All curves so far."""
        if not self.curves:
            return Picture(_waiting_figure(), "A training that has not logged anything yet.")
        return Picture(run_figure(self._entries), self._alt())

    def _alt(self) -> str:
        found = curves(self._entries)
        parts = [f"Curves of a training over {self._entries[-1]['iteration']} iterations."]
        for panel, name, what in ((LOSS, "sum", "Loss"), (AP, "AP", "AP")):
            if name in found.get(panel, {}):
                values = found[panel][name].values
                parts.append(f"{what} from {values[0]:.3f} to {values[-1]:.3f}.")
        return " ".join(parts)


def _in_order(curves: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Pairs of titles and of names: a saved notebook sorts the keys of its objects, and colours follow the order."""
    return [[title, [[name, curve] for name, curve in lines.items()]] for title, lines in curves.items()]


def _waiting_figure() -> Figure:
    figure = Figure(figsize=(4, 0.4))
    figure.text(0.5, 0.5, "nothing logged yet", ha="center", va="center", color=INK)
    return figure


def duration(seconds: float) -> str:
    """``95`` -> "1 min 35 s"; hours and minutes from one hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def replay(path: str | Path = RECORDED) -> LiveCurves:
    """Play a recorded log, on any machine: the page draws the curves as they grew, at the pace you choose.

    Args:
        path: ``log.jsonl`` of a run, or its run folder. By default a log that comes with the project.

    Raises:
        UserError: there is no log, or nothing in it.
    """
    path = Path(path)
    entries = RunLog.entries(path / "log.jsonl" if path.is_dir() else path)
    if not entries:
        raise UserError(f"{path}: expected the log.jsonl of a run, or its run folder; found no line of a log")
    last = entries[-1]["iteration"]
    curves_of_run = LiveCurves(entries, iterations=last, replay=True)
    curves_of_run.iteration = last
    return curves_of_run


def in_notebook() -> bool:
    """Whether this code runs in a kernel, so that widgets can be shown."""
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _watcher() -> Observer:
    return LiveCurves() if in_notebook() else ProgressBar()


watch_by_default(_watcher)
