"""Experiments by name or of a file, and what was recorded of them."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..recipe_names import unknown
from ..training.python_file import defined_in, is_python_file
from .ablation import ABLATION
from .bccd_experiment import BCCD_EXPERIMENT
from .depth import DEPTH
from .detector_table import DETECTOR_TABLE
from .detr_experiments import DETR_EXPERIMENTS
from .experiment import Experiment
from .fine_tuning import FINE_TUNING
from .forms import FORMS_EXPERIMENT
from .offset_fits import OFFSET_FITS_EXPERIMENT
from .photographs import PHOTOGRAPHS
from .record import Record

#: What an experiment file defines.
EXPERIMENT = "EXPERIMENT"
#: Records that the project ships.
RESULTS = Path(__file__).parent / "results"

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        ABLATION,
        BCCD_EXPERIMENT,
        DEPTH,
        FORMS_EXPERIMENT,
        DETECTOR_TABLE,
        FINE_TUNING,
        OFFSET_FITS_EXPERIMENT,
        PHOTOGRAPHS,
        *DETR_EXPERIMENTS,
    )
}


def get_experiment(name: str | Path) -> Experiment:
    """The experiment of that name, or of a Python file that defines ``EXPERIMENT``; the file is run.

    Raises:
        UserError: there is none.
    """
    if is_python_file(name):
        return defined_in(name, EXPERIMENT, Experiment)
    if name not in EXPERIMENTS:
        raise unknown("experiment", str(name), list(EXPERIMENTS), f"there are {', '.join(sorted(EXPERIMENTS))}")
    return EXPERIMENTS[str(name)]


def recorded(name: str | Path) -> Record:
    """What the project has measured of an experiment.

    Raises:
        UserError: there is no such experiment, or nothing was recorded of it.
    """
    path = RESULTS / f"{get_experiment(name).name}.json"
    if not path.exists():
        raise UserError(f"nothing is recorded of {name} yet: dyhead-lab experiment {name} measures it")
    return Record.load(path)
