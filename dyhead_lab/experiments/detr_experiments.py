"""What the papers of DETR's family claim, measured on the tiny recipes.

Deformable DETR: it learns faster than DETR and finds small objects better. Sparse DETR: the decoder refers to fewer
than half of the tokens; to predict which ones beats objectness and chance; one model serves at many shares rho.
Chapter 21 lists the claims, and what the records say to each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..zoo.detr_tiny import DETR_TINY, EFFICIENT_TINY
from .borrowed_tokens import borrowing_sparse_detr
from .detr_rows import AtRho, Doubling, Referring, Selecting
from .experiment import Experiment
from .trained_rows import Curve

_DETR, _DEFORMABLE, _SPARSE = DETR_TINY

#: What Deformable DETR trains for; DETR's own recipe takes ten times as many.
EQUAL: dict[str, Any] = {"iterations": _DEFORMABLE.iterations, "evaluate_every": _DEFORMABLE.evaluate_every}

CONVERGENCE = Experiment(
    name="convergence",
    summary="DETR against Deformable DETR on Shapes: with equally many steps, and with ten times as many for DETR",
    rows={
        "DETR": Curve(_DETR, EQUAL),
        "DETR, ten times as long": Curve(_DETR),
        "Deformable DETR": Curve(_DEFORMABLE),
    },
    baseline="DETR",
    metrics=("AP", "AP_small", "AP after 600", "AP after 1200", "AP after 2400", "AP after 12000"),
)

#: Half of what the recipe trains for: selections are told apart by then, and deep encoders take long steps.
HALF: dict[str, Any] = {"iterations": _SPARSE.iterations // 2, "evaluate_every": _SPARSE.iterations // 4}

TOKEN_SELECTION = Experiment(
    name="token_selection",
    summary="Sparse DETR on Shapes: which tokens to refine, and how many (rho); each row trained on its own",
    rows={
        f"{selection} rho {rho}": Selecting(_SPARSE, {**HALF, "model.selection": selection, "model.rho": rho})
        for rho in (0.1, 0.3)
        for selection in ("random", "objectness", "dam")
    },
    baseline="random rho 0.1",
    against={f"{selection} rho 0.3": "random rho 0.3" for selection in ("objectness", "dam")},
    metrics=("AP", "AP50", "AP_small", "Corr"),
)

SPARSITY = Experiment(
    name="sparsity",
    summary="Sparse DETR, trained with the share rho that it serves, against a dense detector of the same parts",
    rows={"dense": Curve(EFFICIENT_TINY)}
    | {f"rho {rho}": Curve(_SPARSE, {"model.rho": rho}) for rho in (0.1, 0.3, 0.5)},
    baseline="dense",
    metrics=("AP", "AP50", "AP_small", "AP_medium", "AP_large"),
)

DYNAMIC_RHO = Experiment(
    name="dynamic_rho",
    summary="one Sparse DETR, trained with rho 0.3, evaluated with ten rho, beside models trained with their own rho",
    rows={f"rho {step / 10}": AtRho(_SPARSE, {}, step / 10) for step in range(1, 11)}
    | {f"trained with {rho}": AtRho(_SPARSE, {"model.rho": rho}, rho) for rho in (0.1, 0.5)},
    baseline="rho 0.3",
    metrics=("AP", "AP50", "AP_small", "Corr", "encoder ms"),
)

REFERRED_TOKENS = Experiment(
    name="referred_tokens",
    summary=(
        "share of the encoder's tokens that the decoder reads at all (paper: 45 % on COCO), and that carry 90 % of its "
        "attention; pictures of 160, 320 and 480 pixels have 525, 2,100 and 4,725 tokens for 50 queries"
    ),
    rows={
        f"{title}{f', {size} px' if size else ''}": Referring(recipe, {}, size)
        for title, recipe in (("Deformable DETR", _DEFORMABLE), ("Sparse DETR", _SPARSE))
        for size in (None, 320, 480)
    },
    baseline="Deformable DETR",
    metrics=("referred", "carry"),
)

DECODER = Experiment(
    name="decoder",
    summary="Deformable DETR on Shapes: fewer queries, and queries that do not see each other; doubles for each object",
    rows={
        "50 queries": Doubling(_DEFORMABLE),
        "25 queries": Doubling(_DEFORMABLE, {"model.queries": 25}),
        "12 queries": Doubling(_DEFORMABLE, {"model.queries": 12}),
        "no self-attention": Doubling(_DEFORMABLE, {"model.decoder_self_attention": False}),
    },
    baseline="50 queries",
    metrics=("AP", "AP50", "AP_small", "doubles"),
)

REFINEMENT = Experiment(
    name="refinement",
    summary="Deformable DETR on Shapes: boxes guessed once, refined by every layer, and proposed by the encoder",
    rows={
        "one guess": Curve(_DEFORMABLE, {"model.refine": False}),
        "box refinement": Curve(_DEFORMABLE),
        "two stages": Curve(_DEFORMABLE, {"model.two_stage": True}),
    },
    baseline="one guess",
    metrics=("AP", "AP50", "AP75", "AP_small", "AP after 600", "AP after 1200"),
)

ENCODER_LAYERS = Experiment(
    name="encoder_layers",
    summary="Sparse DETR on Shapes with 2, 6 and 12 encoder layers, with auxiliary heads on them and without",
    rows={
        f"{layers} layers{'' if heads else ', no heads'}": Curve(
            _SPARSE, {**HALF, "model.encoder_layers": layers, "model.encoder_aux_loss": heads}
        )
        for layers in (2, 6, 12)
        for heads in (True, False)
    },
    baseline="2 layers",
    against={f"{layers} layers, no heads": f"{layers} layers" for layers in (2, 6, 12)},
    metrics=("AP", "AP50", "AP_small", f"AP after {HALF['evaluate_every']}"),
)

#: The recipe of Sparse DETR, but for who ranks the tokens.
_BORROWING = replace(
    _SPARSE,
    detector=borrowing_sparse_detr,
    model={key: value for key, value in _SPARSE.model.items() if key != "selection"},
)
BORROWED_TOKENS = Experiment(
    name="borrowed_tokens",
    summary="Sparse DETR on Shapes: every token refined, and only those that a trained Deformable DETR reads most",
    rows={"all tokens": Curve(_SPARSE, {**HALF, "model.rho": 1.0})}
    | {f"borrowed rho {rho}": Curve(_BORROWING, {**HALF, "model.rho": rho}) for rho in (0.1, 0.3)},
    baseline="all tokens",
    metrics=("AP", "AP50", "AP_small", f"AP after {HALF['evaluate_every']}"),
)

DETR_EXPERIMENTS: tuple[Experiment, ...] = (
    CONVERGENCE,
    TOKEN_SELECTION,
    SPARSITY,
    DYNAMIC_RHO,
    REFERRED_TOKENS,
    DECODER,
    REFINEMENT,
    ENCODER_LAYERS,
    BORROWED_TOKENS,
)
