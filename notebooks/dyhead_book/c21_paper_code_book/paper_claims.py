"""The claims of the papers, one by one, with the rows of our experiments that speak to each."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from dyhead_lab.experiments.ablation import factorial_table
from dyhead_lab.experiments.record import Record, Spread

from .claims import Claim, Finding, fewer, gain, loss

SHAPES = "Shapes, drawn pictures of 160 pixels"


def _effect(record: Record, letter: str) -> list[float]:
    """What an attention adds, over all four pairs of rows that differ in it alone: one mean for each seed."""
    ap = factorial_table(record)
    pairs = [(ap[row], ap[row - {letter}]) for row in ap if letter in row]
    return [fmean(on[i] - off[i] for on, off in pairs) for i in range(len(record.seeds))]


def _each_attention(record: Record) -> Iterator[Finding]:
    for letter, name in (("L", "scale-aware"), ("S", "spatial-aware"), ("C", "task-aware")):
        yield gain(name, Spread.of(_effect(record, letter)))


def _spatial_the_most(record: Record) -> Iterator[Finding]:
    spatial = _effect(record, "S")
    for letter, name in (("L", "scale-aware"), ("C", "task-aware")):
        more = [s - other for s, other in zip(spatial, _effect(record, letter), strict=True)]
        yield gain(f"spatial-aware minus {name}", Spread.of(more))


def _detectors(record: Record) -> Iterator[Finding]:
    for row, other in (
        ("RetinaNet, 2 blocks", "RetinaNet, towers with GroupNorm"),
        ("FCOS, 2 blocks", "FCOS, towers"),
        ("ATSS, 2 blocks", "ATSS, towers"),
        ("Faster R-CNN, 1 block", "Faster R-CNN, plain"),
    ):
        yield gain(f"{row} minus {other.split(', ')[1]}", record.difference(row, "AP", other))


def _photographs(record: Record) -> Iterator[Finding]:
    yield gain("2 blocks minus towers of their cost", record.difference("2 blocks", "AP"))


def _each_step(record: Record) -> Iterator[Finding]:
    """Every row minus the one above it."""
    rows = list(record.rows)
    for row, other in zip(rows[1:], rows[:-1], strict=True):
        yield gain(f"{row} minus {other}", record.difference(row, "AP", other))


def _cost_of_two(record: Record) -> Iterator[Finding]:
    blocks, towers = (record.spread(f"ATSS, {row}", "MMAC") for row in ("2 blocks", "towers"))
    yield fewer("ATSS with 2 blocks and with towers", blocks, towers, "million multiply-adds")


DYNAMIC_HEAD = (
    Claim(
        "Each attention alone raises AP",
        "each one does",
        f"{SHAPES}; one block on frozen features, 1,800 steps. The paper: six, COCO, 90,000 steps of 16 pictures",
        "ablation",
        _each_attention,
    ),
    Claim(
        "Spatial-aware attention raises it most",
        "it does",
        "the same runs",
        "ablation",
        _spatial_the_most,
    ),
    Claim(
        "Detectors of every kind gain",
        "+0.012 to +0.032 AP on five",
        f"{SHAPES}; 2,400 steps, a narrow backbone. RetinaNet's published towers have no GroupNorm and each block has "
        "it, so it is held against towers with it. RepPoints, the fifth, was not trained",
        "detectors",
        _detectors,
    ),
    Claim(
        "On photographs too",
        "all of the above are",
        "1,578 photographs of COCO, EfficientNet-Lite0; 1,200 steps, at which both still rise. COCO itself takes a GPU",
        "photographs",
        _photographs,
    ),
    Claim(
        "More blocks are better",
        "six are released",
        f"{SHAPES}; frozen features, 1,800 steps, at which heads of four and six still rise. It takes longer trainings",
        "depth",
        _each_step,
    ),
    Claim(
        "Two blocks cost less than the towers whose place they take",
        "they do; six cost 21.5 GFLOPs more",
        "counted; chapter 07 counts 21.7 GMAC more for six at the published size",
        "detectors",
        _cost_of_two,
    ),
    Claim(
        "With a large transformer it leads the ranking on COCO",
        "0.606 AP on test-dev",
        "Swin-L, more pictures than COCO has, eight large GPUs",
    ),
)


def _epochs(record: Record) -> Iterator[Finding]:
    for metric in ("AP", "AP_small"):
        yield gain("Deformable DETR minus DETR, equal steps", record.difference("Deformable DETR", metric), metric)
    long = "DETR, ten times as long"
    for metric in ("AP", "AP_small"):
        more = record.difference("Deformable DETR", metric, long)
        yield gain("Deformable DETR minus DETR with ten times the steps", more, metric)


def _doubles(record: Record) -> Iterator[Finding]:
    more = record.difference("no self-attention", "doubles")
    yield gain("no self-attention minus with it", more, "doubles an object")


DEFORMABLE_DETR = (
    Claim(
        "DETR needs ten times the epochs, and stays behind on small objects",
        "50 epochs in place of 500",
        f"{SHAPES}; small models on a backbone that has learned Shapes, 2,400 and 24,000 steps of 8 pictures",
        "convergence",
        _epochs,
    ),
    Claim(
        "Box refinement adds, and two stages add again",
        "0.445, 0.462, 0.469 AP",
        f"{SHAPES}; small models, 2,400 steps",
        "refinement",
        _each_step,
    ),
    Claim(
        "The decoder's self-attention keeps queries from finding one object twice (DETR)",
        "suppression of doubles is not needed",
        f"{SHAPES}; trained without self-attention, 2,400 steps",
        "decoder",
        _doubles,
    ),
)


def _referred(record: Record) -> Iterator[Finding]:
    for row in ("Deformable DETR", "Deformable DETR, 320 px", "Deformable DETR, 480 px"):
        read, carry = (record.spread(row, metric) for metric in ("referred", "carry"))
        if read and carry:
            text = f"{row}: {100 * read.mean:.0f} % are read, {100 * carry.mean:.0f} % carry 90 % of the weight"
            half = "less than half" if read.mean < 0.5 else "more than half"
            yield Finding(text, half + (", one seed" if read.seeds == 1 else ""))


def _few_tokens(record: Record) -> Iterator[Finding]:
    for row in ("rho 0.1", "rho 0.3"):
        yield loss(f"{row} minus dense", record.difference(row, "AP", "dense"))


def _more_tokens(record: Record) -> Iterator[Finding]:
    yield gain("rho 0.5 minus rho 0.1", record.difference("rho 0.5", "AP", "rho 0.1"))


def _selection(record: Record) -> Iterator[Finding]:
    called = {"dam": "DAM", "objectness": "objectness", "random": "chance"}
    for rho in (0.1, 0.3):
        for metric in ("AP", "Corr"):
            for better, worse in (("objectness", "random"), ("dam", "random"), ("dam", "objectness")):
                more = record.difference(f"{better} rho {rho}", metric, f"{worse} rho {rho}")
                yield gain(f"{called[better]} minus {called[worse]}, rho {rho}", more, metric)


def _encoder_heads(record: Record) -> Iterator[Finding]:
    for layers in (2, 6, 12):
        more = record.difference(f"{layers} layers", "AP", f"{layers} layers, no heads")
        yield gain(f"{layers} layers, with heads minus without", more)


def _other_shares(record: Record) -> Iterator[Finding]:
    for rho in (0.1, 0.5):
        more = record.difference(f"rho {rho}", "AP", f"trained with {rho}")
        yield loss(f"trained with 0.3 and served with {rho}, minus trained with it", more)


def _encoder_time(record: Record) -> Iterator[Finding]:
    few, all_of_them = (record.spread(f"rho {rho}", "encoder ms") for rho in ("0.1", "1.0"))
    yield fewer("rho 0.1 and 1", few, all_of_them, "milliseconds of the encoder")


def _borrowed(record: Record) -> Iterator[Finding]:
    for rho in (0.1, 0.3):
        yield loss(f"rho {rho} minus all tokens", record.difference(f"borrowed rho {rho}", "AP"))


SPARSE_DETR = (
    Claim(
        "A decoder reads fewer than half of the encoder's tokens",
        "45 % of a trained Deformable DETR",
        "50 queries and 525, 2,100 and 4,725 tokens; the paper: 300 and some 18,000. The share falls as pictures grow",
        "referred_tokens",
        _referred,
    ),
    Claim(
        "Few refined tokens lose nothing against a dense encoder of the same parts",
        "0.453 and 0.460 with 10 and 30 %, dense 0.460",
        f"{SHAPES}, 525 tokens; 2,400 steps. Larger pictures have more tokens to spare",
        "sparsity",
        _few_tokens,
    ),
    Claim(
        "More refined tokens, more AP",
        "0.453 to 0.463 from 10 to 50 %",
        "the same runs",
        "sparsity",
        _more_tokens,
    ),
    Claim(
        "The decoder attention map (DAM) chooses better than objectness, and both better than chance",
        "in AP and in Corr",
        f"{SHAPES}; half of the recipe's steps",
        "token_selection",
        _selection,
    ),
    Claim(
        "Auxiliary heads let the encoder be deep",
        "12 layers, whose gradients vanish without",
        f"{SHAPES}; half of the recipe's steps",
        "encoder_layers",
        _encoder_heads,
    ),
    Claim(
        "One model serves with other shares than it was trained with",
        "it does",
        f"{SHAPES}; 2,400 steps",
        "dynamic_rho",
        _other_shares,
    ),
    Claim(
        "A sparse encoder is cheaper",
        "the whole model 105 GFLOPs with 10 %, 177 with all",
        "one thread of a processor; chapter 12 counts the whole model",
        "dynamic_rho",
        _encoder_time,
    ),
    Claim(
        "Refining only what the decoder of another model reads costs little",
        "0.001 AP, with the 45 % that it reads",
        f"{SHAPES}, of whose tokens a decoder reads nearly all: those that it reads most. Half of the recipe's steps",
        "borrowed_tokens",
        _borrowed,
    ),
)
