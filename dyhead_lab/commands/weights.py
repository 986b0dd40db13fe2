"""``dyhead-lab weights``: which weights can be had by name, how they come here, whether they do what they should."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..paths import coco_path
from ..published.catalogue import CATALOGUE, is_published, no_weights, shipped
from ..published.golden import GOLDEN, PICTURE, TOLERANCE

if TYPE_CHECKING:
    from ..zoo import Trained

#: How far AP may lie from the published one: as much as a resize of another library moves it.
AP_TOLERANCE = 0.002


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Three tasks: list (without any), ``get`` and ``verify``."""
    parser.epilog = (
        "hf:OWNER/REPOSITORY names another repository of the Hugging Face Hub, hf:OWNER/REPOSITORY@REVISION a commit, "
        "tag or branch of one. Where these weights are stored is "
        "decided by HF_HOME and TORCH_HOME; HF_HUB_OFFLINE=1 uses only what is there."
    )
    tasks = parser.add_subparsers(dest="task", metavar="TASK")
    fetch = tasks.add_parser("get", help="fetch weights, if they are not here")
    verify = tasks.add_parser("verify", help="load weights strictly and compare with what their source states")
    for task in (fetch, verify):
        task.add_argument("name", help="of the list")
    verify.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help=f"{PICTURE} of COCO val2017, which published numbers belong to (default: that of COCO, if it is here)",
    )


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 where weights do not give what was published.

    Raises:
        UserError: nobody publishes a model of that name, or it cannot be fetched or loaded.
    """
    if args.task is None:
        return _list()
    if not is_published(args.name):
        raise UserError(no_weights(args.name))
    from ..published.store import get

    path = get(args.name)
    print(f"{args.name}: {path}")
    return _verify(args.name, args.picture) if args.task == "verify" else 0


def _list() -> int:
    from ..published.store import here

    width = max(map(len, CATALOGUE))
    print("shipped with this project: " + ", ".join(shipped()))
    print("published by others (AP on COCO val2017 as their sources state it; none was downloaded when this list was")
    print("made, on a machine without a network: layouts are tested with models of the same code, filled at random)")
    for weights in CATALOGUE.values():
        mark = "*" if here(weights.name) else "!" if weights.by_hand else " "
        print(f"{mark} {weights.name:<{width}}  {weights.ap:.3f}  {weights.megabytes:4} MB  {weights.summary}")
        where = f"{weights.source}, {weights.pinned}"
        print(f"  {'':<{width}}  {weights.backbone}; {weights.licence}; {where}; {weights.paper}")
    print("not pinned: no commit was known when this list was made; hf:OWNER/REPOSITORY@COMMIT asks for one")
    print("* it is here   ! it cannot be fetched by a program: dyhead-lab weights get NAME says why")
    print("dyhead-lab detect IMAGE --weights NAME uses one, and fetches it first if need be")
    return 0


def _verify(name: str, picture: Path | None) -> int:
    from ..zoo import load_trained

    trained = load_trained(name)  # strict: every entry is used
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    print(
        f"loads strictly: {type(trained.model).__name__}, {parameters:,} parameters, {len(trained.categories)} classes"
    )
    picture = picture or coco_path() / "val2017" / PICTURE
    if name in GOLDEN and picture.is_file():
        return _numbers(name, trained, picture)
    if (coco_path() / "val2017").is_dir() and name in CATALOGUE:
        return _ap(name, trained)
    wanted = f"the picture {PICTURE} (--picture FILE) or COCO" if name in GOLDEN else "COCO"
    print(f"not compared with published numbers: that takes {wanted}, which is not in {coco_path()}")
    return 0


def _numbers(name: str, trained: Trained, picture: Path) -> int:
    from ..zoo.verified import agrees, compare

    differences = compare(trained, GOLDEN[name], picture)
    for part, difference in differences.items():
        print(f"{part}: at most {difference:.1e} from the published numbers (their tolerance: {TOLERANCE:.0e})")
    print("right" if agrees(differences) else "NOT the published numbers")
    return 0 if agrees(differences) else 1


def _ap(name: str, trained: Trained) -> int:
    from ..evaluation.coco_metric import evaluate
    from .evaluated import dataset_of, detections_of

    dataset = dataset_of(trained, None, "val")
    ap = evaluate(dataset, detections_of(trained, dataset))["AP"]
    published = CATALOGUE[name].ap
    print(f"AP {ap:.4f} on COCO val2017; published: {published:.3f}")
    return 0 if abs(ap - published) <= AP_TOLERANCE else 1
