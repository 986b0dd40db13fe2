"""``train``: a recipe in, a run folder with weights, log and numbers out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, overload

from ..data.coco import coco_folder
from ..data.subset import fraction_of
from ..errors import UserError
from ..evaluation.coco_metric import CocoResult, as_text, evaluate
from ..evaluation.records import finite_records
from ..notices import notice
from ..paths import legible, why_not_written
from .checkpoint import WEIGHTS, read, save_weights, writing
from .distributed import gather_list
from .engine import Engine
from .interrupt import Interrupted, interrupt_as_request
from .lookup import find_recipe
from .observer import Observer, Silent, Together, default_observer
from .probes import Probe
from .recipe import Recipe
from .run_folder import WEIGHTS_FILE, Journal, forget
from .run_lock import alone_in
from .schedules import warmup_steps
from .start import Start

LOG_EVERY = 20  # iterations
PROBED = 2  # validation images

Batch = tuple[list[Any], list[dict[str, Any]]]  # images and targets


@overload
def train(
    recipe: Recipe | str | Path,
    data: str | Path | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    progress: bool = True,
    changes: Mapping[str, Any] | None = None,
    *,
    observer: Observer,
    watching: Sequence[Observer] = (),
    start: Start | None = None,
    **settings: Any,
) -> CocoResult: ...


@overload
def train(
    recipe: Recipe | str | Path,
    data: str | Path | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    progress: bool = True,
    changes: Mapping[str, Any] | None = None,
    observer: None = None,
    watching: Sequence[Observer] = (),
    start: Start | None = None,
    **settings: Any,
) -> CocoResult | None: ...


def train(
    recipe: Recipe | str | Path,
    data: str | Path | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    progress: bool = True,
    changes: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    watching: Sequence[Observer] = (),
    start: Start | None = None,
    **settings: Any,
) -> CocoResult | None:
    """Train a recipe to its end. A run that was stopped or killed continues from its last checkpoint.

    Evaluations hold the training up while the averaged weights detect in the validation images, on purpose: the same
    device would only share itself between the two. It computes in batches as large as a step's micro-batches, from
    images that other processes decode, while those of the training keep the next batches ready. On COCO's 5000 images
    after every 160,000 (the schedules of Detectron2) that is about 1 % of a training, as an image costs a third of
    what it costs in a step. The metric of 5000 images takes hotcoco less than a second. Without hotcoco it takes
    pycocotools up to a minute: ``pip install hotcoco``. A checkpoint precedes each evaluation. A run that is killed
    while it is evaluated is evaluated first when it continues: it repeats no step, and its log lacks nothing.

    Who watches a run cannot end it: saving comes before looking, and a watcher or a probe that fails is left out.

    Args:
        recipe: a recipe, its name in the zoo, or a Python file that defines ``RECIPE``; see :mod:`.lookup`.
        data: a COCO-format folder with splits "train" and "val" in place of the recipe's own data.
        out: folder of the run; ``runs/NAME`` by default. It receives ``last.pt`` (to continue from),
            ``weights.pt`` (half precision, what is evaluated) and the files of :mod:`.run_folder`.
        fresh: start anew, even if the folder holds a run; its checkpoint and results are removed.
        progress: show how the run goes, where there is no ``observer``: live curves in a notebook cell (with
            ``dyhead_lab.train``, which is this function), else a progress bar.
        changes: other settings for this run, such as ``{"iterations": 500, "model.dyhead_blocks": 0}``.
        observer: who watches the run, in place of curves or bar.
        watching: who else watches, such as :class:`~dyhead_lab.views.live_scale.LiveScale`.
        start: fine-tuning: a trained detector whose weights this training starts from, as ``load_trained`` gives it.
            Its classes may be others: what depends on them starts anew, and a notice says what that is.
        settings: ``changes`` as arguments, such as ``iterations=500`` or ``model={"dyhead_blocks": 0}``.

    Returns:
        the 12 COCO numbers of ``weights.pt`` on the validation split. None if the run was stopped under live curves,
        which say so: then it is saved, the next cell runs, and the same call continues it.

    Raises:
        UserError: unknown settings, a class among them that no file could name (a lambda, say), unusable data, a
            ``start`` of another architecture, a folder that holds another run, in which another process trains, that
            cannot be written or is not shared by all machines, a loss that is not finite.
        Interrupted: Ctrl-C, or an observer asked to stop, where no live curves say so; the checkpoint is written.
    """
    recipe = find_recipe(recipe).with_changes({**(changes or {}), **_by_dotted_name(settings)})
    recipe.origin()  # what could not be written down at the first checkpoint is refused now
    out = Path(out or Path("runs") / recipe.name)
    problem = why_not_written(out)
    if legible(str(out)) != str(out):
        problem = "its name is not encoded as UTF-8, on which TensorBoard would fail"
    if problem:  # told before data is drawn and a detector built
        raise UserError(f"cannot write {out}: {problem}; choose another folder with --out (out=... in Python)")
    train_set, val_set = (coco_folder(data, split) if data else recipe.data(split) for split in ("train", "val"))
    engine = Engine(recipe, fraction_of(train_set, recipe.fraction), val_set, out, start)
    with alone_in(out) if engine.is_main else nullcontext():
        return _follow(engine, fresh, progress, observer, watching)


def _follow(
    engine: Engine, fresh: bool, progress: bool, observer: Observer | None, watching: Sequence[Observer]
) -> CocoResult | None:
    """Start or continue the run in the engine's folder, and see it to its end; see :func:`train`."""
    recipe, out, start = engine.recipe, engine.out, engine.start
    if fresh and engine.is_main:
        forget(engine)
    elif not fresh and engine.checkpoint_path.exists():
        engine.load()
    if engine.accelerator.num_processes > 1:
        _refuse_folders_apart(engine)
    if start is not None and engine.is_main and not engine.iteration:
        anew = f"all but {', '.join(engine.anew)}, which depend on the classes" if engine.anew else "all weights"
        notice(f"starting from {start.path}: {anew}")
    if engine.iteration and progress:
        print(f"{out}: continuing at iteration {engine.iteration} of {recipe.iterations}")
    if engine.is_main and warmup_steps(recipe) < recipe.warmup:
        notice(
            f"{recipe.iterations} iterations would end within the warm-up of {recipe.warmup}: it takes "
            f"{warmup_steps(recipe)} of them (--set warmup=N chooses)"
        )
    watcher = observer or (default_observer() if progress else Silent())
    journal = Journal.of(engine, Together([watcher, *watching]))
    message = f"{out}: failed"
    try:
        with interrupt_as_request() as interrupted:
            _steps(engine, journal, interrupted)
            result = _finish(engine, journal)
        message = f"{out}: finished, AP {as_text(result['AP'], '.3f')}; {engine.memory or 'nothing was left to train'}"
        return result
    except Interrupted as stop:
        message = str(stop)
        if observer is not None or not watcher.tells_of_stops:
            raise
        return None
    finally:
        journal.close(message)


def _by_dotted_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``{"model": {"blocks": 2}}`` -> ``{"model.blocks": 2}``."""
    options = settings.get("model", {})
    others = {name: value for name, value in settings.items() if name != "model"}
    return others | {f"model.{name}": value for name, value in options.items()}


def _refuse_folders_apart(engine: Engine) -> None:
    """All processes see a file that the main one writes, and start at the same iteration.

    Otherwise each machine would continue from its own checkpoint, with other weights than the others.

    Raises:
        UserError: the machines do not share the folder of the run.
    """
    accelerator = engine.accelerator
    mark = f"seen_by_all_{uuid.uuid4().hex}"  # a new name: what is left of a killed run proves nothing
    if accelerator.is_main_process:
        with writing(engine.out):
            engine.out.mkdir(parents=True, exist_ok=True)
            (engine.out / mark).touch()
    mark = gather_list([mark], accelerator)[0]  # comes from the main process, which has written it by now
    found = gather_list([((engine.out / mark).exists(), engine.iteration)], accelerator)
    if accelerator.is_main_process:
        (engine.out / mark).unlink(missing_ok=True)
    if not all(seen for seen, _ in found) or len(set(found)) > 1:
        starts = ", ".join(f"process {rank} at {iteration}" for rank, (_, iteration) in enumerate(found))
        raise UserError(
            f"{engine.out}: expected a run folder that all machines share, but processes look into different ones "
            f"(iterations: {starts}); choose an --out on a shared disk"
        )


def _steps(engine: Engine, journal: Journal, interrupted: Callable[[], bool]) -> None:
    """Train to the end of the recipe, with a line in the log for each stretch, evaluation and checkpoint."""
    recipe, observer, model = engine.recipe, journal.observer, engine.averaged.module
    stretch = Stretch(recipe.batch_size)
    looked_at = [engine.val_set[i][0].to(engine.accelerator.device) for i in range(min(PROBED, len(engine.val_set)))]
    probe = Probe(looked_at)
    engine.model.train()
    if engine.iteration and not journal.has_probed(engine.iteration):  # killed between saving and looking
        journal.note(engine.iteration, probe(model))
    _evaluate_if_due(engine, journal)
    for images, targets in stretch.timed(engine.batches()):
        if engine.iteration >= recipe.iterations:
            return
        lr = engine.lr
        stretch.add(engine.step(images, targets))
        observer.advance(engine.iteration)
        if engine.iteration % LOG_EVERY == 0:
            journal.note(engine.iteration, {"lr": lr, **stretch.numbers()})
        is_last = engine.iteration == recipe.iterations
        stopping = not is_last and _all_agree_to_stop(engine, interrupted() or observer.asks_to_stop())
        if engine.iteration % recipe.checkpoint_every == 0 or is_last or stopping or _is_evaluated_here(engine):
            engine.save()
            journal.note(engine.iteration, probe(model))
        if stopping:
            raise Interrupted(
                f"{engine.out}: stopped at iteration {engine.iteration} of {recipe.iterations} and saved; "
                "the same command continues from there"
            )
        _evaluate_if_due(engine, journal)


def _is_evaluated_here(engine: Engine) -> bool:
    """Whether the recipe evaluates the weights of this iteration. Those of the last one are evaluated at the end."""
    recipe, iteration = engine.recipe, engine.iteration
    return 0 < iteration < recipe.iterations and iteration % recipe.evaluate_every == 0


def _evaluate_if_due(engine: Engine, journal: Journal) -> None:
    """Evaluate the averaged weights where the recipe says so, unless it was done before the run was stopped."""
    if not _is_evaluated_here(engine):
        return
    if not any(gather_list([journal.has_evaluated(engine.iteration)], engine.accelerator)):
        journal.note(engine.iteration, engine.evaluate(engine.averaged.module).numbers)


def _all_agree_to_stop(engine: Engine, asked: bool) -> bool:
    """Whether any process was asked to stop: then all of them stop after the same step."""
    if engine.accelerator.num_processes == 1:
        return asked
    if asked:
        engine.accelerator.set_trigger()
    return engine.accelerator.check_trigger()


def _finish(engine: Engine, journal: Journal) -> CocoResult:
    """Write the averaged weights, load them back, and evaluate what was written: half precision is part of it."""
    path = engine.out / WEIGHTS_FILE
    model = engine.averaged.module
    if engine.accelerator.is_main_process:
        origin = engine.recipe.origin()
        options, categories = origin["settings"]["model"], list(engine.train_set.categories)
        save_weights(path, model, engine.recipe.name, options, categories, origin)
    engine.accelerator.wait_for_everyone()
    model.load_state_dict(read(path, WEIGHTS)["state_dict"])
    detections, not_finite = finite_records(engine.detect(model))  # JSON has no NaN
    result = replace(evaluate(engine.val_set, detections), not_finite=not_finite)
    if not journal.has_evaluated(engine.iteration):
        journal.note(engine.iteration, result.numbers)
    journal.finish(result, detections, engine.memory)
    return result


class Stretch:
    """The steps since the last line of the log: their mean losses, their speed, and how long they waited for data.

    Args:
        batch_size: images a step.
    """

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._clear()

    def _clear(self) -> None:
        self._losses: list[dict[str, float]] = []
        self._steps = 0
        self._waited = self._computed = 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; the time until each one comes counts as waiting."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            if batch is None:
                return
            self._came = time.perf_counter()
            self._waited += self._came - asked
            yield batch

    def add(self, losses: dict[str, float]) -> None:
        """The step for the last batch is done."""
        self._computed += time.perf_counter() - self._came
        self._steps += 1
        if losses:  # a step that was skipped has none
            self._losses.append(losses)

    def numbers(self) -> dict[str, float]:
        """Means of the losses, ``images_per_second``, and ``waiting``: the share of the time spent waiting for data.

        The next stretch starts.
        """
        seconds = self._waited + self._computed
        names = self._losses[0] if self._losses else {}
        numbers = {
            "images_per_second": round(self._steps * self.batch_size / seconds, 1),
            "waiting": round(self._waited / seconds, 3),
            **{name: fmean(losses[name] for losses in self._losses) for name in names},
        }
        self._clear()
        return numbers
