"""``train``: a recipe in, a run folder with weights, log and numbers out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from ..data.coco import coco_folder
from ..evaluation.coco import CocoResult
from .checkpoint import WEIGHTS, RunLog, read, save_weights
from .engine import Engine
from .recipe import Recipe

LOG_EVERY = 20  # iterations


def train(
    recipe: Recipe,
    data: str | Path | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    progress: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> CocoResult:
    """Train a recipe to its end. A run that was killed continues from its last checkpoint.

    Args:
        recipe: from the zoo.
        data: a COCO-format folder with splits "train" and "val" in place of the recipe's own data.
        out: folder of the run; ``runs/NAME`` by default. It receives ``last.pt`` (to continue from),
            ``weights.pt`` (half precision, what is judged), ``log.jsonl`` and a TensorBoard log.
        fresh: start anew, even if the folder holds a run.
        progress: show a progress bar with loss, learning rate and time left.
        changes: other settings for this run, such as ``{"iterations": 500, "model.dyhead_blocks": 0}``.

    Returns:
        the 12 COCO numbers of ``weights.pt`` on the validation split.

    Raises:
        UserError: unknown settings, unusable data, a folder that holds another run, a loss that is not finite.
    """
    recipe = recipe.with_changes(changes or {})
    out = Path(out or Path("runs") / recipe.name)
    train_set, val_set = (coco_folder(data, s) if data else recipe.data(s) for s in ("train", "val"))
    engine = Engine(recipe, train_set, val_set, out)
    if fresh:
        engine.checkpoint_path.unlink(missing_ok=True)
    elif engine.checkpoint_path.exists():
        engine.load()
        if progress:
            print(f"{out}: continuing at iteration {engine.iteration} of {recipe.iterations}")
    return _run(engine, progress)


def _run(engine: Engine, progress: bool) -> CocoResult:
    """Train to the end of the recipe, judge, and keep the averaged weights in ``weights.pt``.

    Returns:
        the COCO numbers of the very weights that were written.
    """
    recipe, out = engine.recipe, engine.out
    log = RunLog(out / "log.jsonl", engine.iteration)
    board = SummaryWriter(str(out / "tensorboard"), purge_step=engine.iteration)
    bar = tqdm(total=recipe.iterations, initial=engine.iteration, desc=recipe.name, disable=not progress)
    window: list[dict[str, float]] = []
    started, since = time.perf_counter(), engine.iteration
    engine.model.train()
    for images, targets in engine.batches():
        if engine.iteration >= recipe.iterations:
            break
        lr = engine.lr
        window.append(engine.step(images, targets))
        bar.update()
        if engine.iteration % LOG_EVERY == 0:
            means = {name: fmean(losses[name] for losses in window) for name in window[0]}
            window = []
            speed = (engine.iteration - since) * recipe.batch_size / (time.perf_counter() - started)
            log.add(engine.iteration, lr=lr, images_per_second=round(speed, 1), **means)
            for name, value in {"lr": lr, **means}.items():
                board.add_scalar(f"train/{name}", value, engine.iteration)
            bar.set_postfix(loss=f"{means['loss']:.3f}", lr=f"{lr:.1e}")
        if engine.iteration % recipe.evaluate_every == 0 and engine.iteration < recipe.iterations:
            result = engine.judge(engine.averaged.module)
            _report(engine, result, log, board, bar)
        if engine.iteration % recipe.checkpoint_every == 0 or engine.iteration == recipe.iterations:
            engine.save()
    bar.close()
    result = _finish(engine)
    _report(engine, result, log, board, bar)
    board.close()
    return result


def _report(engine: Engine, result: CocoResult, log: RunLog, board: SummaryWriter, bar: tqdm) -> None:
    log.add(engine.iteration, **result.numbers)
    for name, value in result.numbers.items():
        board.add_scalar(f"val/{name}", value, engine.iteration)
    if not bar.disable:
        line = "  ".join(f"{name} {result[name]:.3f}" for name in list(result.numbers)[:6])
        bar.write(f"iteration {engine.iteration}: {line}")


def _finish(engine: Engine) -> CocoResult:
    """Write the weights, load them back, and judge what was written: half precision is part of the result."""
    path = engine.out / "weights.pt"
    model = engine.averaged.module
    save_weights(path, model, engine.recipe.name, engine.recipe.model, engine.train_set.categories)
    model.load_state_dict(read(path, WEIGHTS)["state_dict"])
    return engine.judge(model)
