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

from . import (
    attention,
    attention_layers,
    claims,
    deforming,
    detectors,
    head_parts,
    heads,
    measuring,
    one_stage,
    pages,
    pyramids,
    race,
    sampling,
    sets,
    threads,
    training,
)
from .draw import Diagram

FOLDER = CHAPTERS / "diagrams"

#: Name of a file, without its ending -> what draws it.
DIAGRAMS: dict[str, Callable[[], Diagram]] = {
    draw.__name__: draw
    for draw in (
        pyramids.feature_pyramid,
        measuring.intersection_over_union,
        measuring.point_and_box,
        pyramids.released_block,
        pyramids.paper_block,
        sampling.bilinear_sample,
        deforming.regular_and_moved_taps,
        deforming.gradient_of_a_sample,
        sampling.deformable_layer,
        sampling.threads_and_memory,
        threads.thread_to_output,
        threads.who_reads_what,
        threads.tile_with_halo,
        race.conv_in_three_steps,
        race.taking_turns,
        head_parts.two_scale_forms,
        head_parts.what_two_lines_make,
        head_parts.offset_on_three_grids,
        attention.scale_gate,
        attention.task_activation,
        attention.dense_and_deformable,
        attention.deformable_module,
        attention_layers.multihead_attention,
        attention_layers.encoder_and_decoder_layer,
        attention_layers.levels_as_tokens,
        attention_layers.shares_and_cells,
        detectors.detector_families,
        detectors.detr,
        detectors.decoder_layer,
        detectors.two_stages,
        detectors.sparse_encoder,
        detectors.training_step,
        heads.level_reach,
        heads.paper_head,
        heads.fourth_attention,
        heads.pairs_problem,
        sets.set_matching,
        sets.padded_batch,
        sets.sparse_layer,
        sets.token_scorer,
        one_stage.one_stage_detector,
        one_stage.two_stage_attention,
        training.parameter_groups,
        claims.claim_and_control,
        claims.point_leaves_weight,
        claims.ring_of_points,
        claims.ratio_of_gates,
        claims.paired_changes,
        pages.later_changes,
        pages.denoising_groups,
        pages.map_of_the_book,
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
