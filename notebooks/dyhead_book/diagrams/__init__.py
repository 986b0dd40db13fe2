"""The diagrams of the book: drawn here, kept as SVG files in ``notebooks/diagrams``, shown in markdown cells.

``python -m dyhead_book.diagrams`` writes the files; chapters show them with what :func:`markdown`
gives.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable
from pathlib import Path

from dyhead_lab.paths import CHAPTERS

from . import attention, detectors, one_stage, pyramids, race, sampling, threads, training
from .draw import Diagram

FOLDER = CHAPTERS / "diagrams"

#: Name of a file, without its ending -> what draws it.
DIAGRAMS: dict[str, Callable[[], Diagram]] = {
    draw.__name__: draw
    for draw in (
        pyramids.feature_pyramid,
        pyramids.released_block,
        pyramids.paper_block,
        sampling.bilinear_sample,
        sampling.deformable_layer,
        sampling.threads_and_memory,
        threads.thread_to_output,
        threads.who_reads_what,
        threads.tile_with_halo,
        race.conv_in_three_steps,
        race.taking_turns,
        attention.scale_gate,
        attention.task_activation,
        attention.dense_and_deformable,
        attention.deformable_module,
        detectors.detector_families,
        detectors.detr,
        detectors.decoder_layer,
        detectors.two_stages,
        detectors.sparse_encoder,
        detectors.training_step,
        one_stage.one_stage_detector,
        one_stage.two_stage_attention,
        training.parameter_groups,
    )
}


def write_diagrams(folder: Path = FOLDER) -> list[Path]:
    """Write all files; those of diagrams that are no more are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in DIAGRAMS.items():
        path = folder / f"{name}.svg"
        path.write_text(draw().svg(), encoding="utf-8")
        written.append(path)
    for old in set(folder.glob("*.svg")) - set(written):
        old.unlink()
    return written


def markdown(name: str) -> str:
    """What shows a diagram in a chapter's markdown, with the sentences for those who cannot see it; in short lines."""
    tag = f'<img src="diagrams/{name}.svg" alt="{html.escape(DIAGRAMS[name]().alt)}">'
    return "\n".join(textwrap.wrap(tag, 110, break_long_words=False, break_on_hyphens=False))
