"""A student outside of the repository: an attention, a data set, a recipe and an experiment of their own.

CONTRIBUTING.md, "How to add", says what these files say. No file of the library is touched.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from dyhead_lab.training.checkpoint import CHECKPOINT, WEIGHTS, read
from dyhead_lab.training.run_folder import read_json

ROOT = Path(__file__).parents[1]

FILES = {
    "row_attention.py": '''
        """Every place reads its own row."""

        import torch
        from torch import nn

        from dyhead_lab.trace import describe, emit

        describe("row_weights", "how much a place reads of each place of its row, (B, H, W, W)")


        class RowAttention(nn.Module):
            def __init__(self, channels):
                super().__init__()
                self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
                self.offset_of_rows = nn.Parameter(torch.zeros(channels))  # a name that means nothing

            def forward(self, levels):
                return [self.one(level) for level in levels]

            def one(self, level_BCHW):
                rows = (level_BCHW + self.offset_of_rows[:, None, None]).permute(0, 2, 3, 1)
                scores = self.query(rows) @ self.key(rows).transpose(-1, -2) / rows.shape[-1] ** 0.5
                weights = scores.softmax(-1)
                emit(self, row_weights=weights, something_undocumented=weights.sum())
                return level_BCHW + (weights @ rows).permute(0, 3, 1, 2)
        ''',
    "dots.py": '''
        """White squares on black."""

        import torch

        from dyhead_lab.data.dataset import DetectionSet


        class Dots(DetectionSet):
            categories = ["small", "large"]

            def __init__(self, images):
                self.images = images

            def __len__(self):
                return self.images

            def objects(self, index):
                x, y, side = 4 + 5 * (index % 5), 6 + 3 * (index % 7), 8 + 12 * (index % 2)
                return {"boxes": torch.tensor([[x, y, x + side, y + side]]), "labels": torch.tensor([index % 2])}

            def image(self, index):
                picture = torch.zeros(3, 64, 64)
                x1, y1, x2, y2 = self.objects(index)["boxes"][0]
                picture[:, y1:y2, x1:x2] = 1
                return picture


        def dots(split):
            return Dots({"train": 8, "val": 4}[split])
        ''',
    "mine.py": """
        from dots import dots
        from row_attention import RowAttention

        from dyhead_lab.detectors.one_stage.atss import atss
        from dyhead_lab.training import Recipe

        RECIPE = Recipe(
            name="rows",
            summary="ATSS with an attention along rows",
            detector=atss,
            dataset=dots,
            model={
                "backbone": "narrow",
                "channels": 32,
                "dyhead_blocks": 1,
                "dyhead": {"extra": RowAttention},
                "min_size": 64,
                "max_size": 64,
            },
            iterations=20,
            batch_size=2,
            warmup=2,
            precision="fp32",
            evaluate_every=10,
            checkpoint_every=5,
        )
        """,
    "ablation.py": """
        from mine import RECIPE

        from dyhead_lab.experiments.experiment import Experiment, Training

        EXPERIMENT = Experiment(
            name="row_ablation",
            summary="does reading along rows help?",
            rows={"without": Training(RECIPE, {"model.dyhead": {}}), "with": Training(RECIPE)},
            baseline="without",
            seeds=(0,),
        )
        """,
    "look.py": """
        import sys

        import torch

        from dyhead_lab.errors import UserError
        from dyhead_lab.trace import NAMES, trace
        from dyhead_lab.views.sampling_points import SamplingPoints
        from dyhead_lab.zoo import load_trained

        run = sys.argv[1]
        try:
            load_trained(run)
        except UserError as error:
            print("refused:", error)
        assert "row_attention" not in sys.modules  # what a file says is not run

        trained = load_trained(run, imports=["mine.py"])
        image, _ = trained.recipe.data("val")[1]
        with trace(trained.model) as seen:
            trained.model([image])
        assert {"row_weights", "something_undocumented"} <= set(seen.names()) and "row_weights" in NAMES
        path, weights = next(seen.find("row_weights"))
        assert path.endswith(".extra") and torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)
        points = SamplingPoints(seen, image)
        points.click = [0.5, 0.5]
        print("points:", len(points.points), "of", len(points.layers), "layers")
        """,
    "commands.py": """
        from torchvision.io import write_png

        from dyhead_lab.cli import main
        from dyhead_lab.views.live_scale import LiveScale
        from dyhead_lab.zoo import get

        image, _ = get("mine.py").data("val")[1]
        write_png((image * 255).byte(), "one.png")
        for words in (
            "errors runs/rows --import mine.py --images 1",
            "detect one.png --weights runs/rows --import mine.py --out found",
            "compare runs/rows",
            "zoo mine.py",
            "train mine.py --smoke",
            "bench train mine.py --steps 1 --batch 2",
            "efficiency mine.py --size 64x64 --runs 1",
        ):
            assert main(words.split()) == 0, words
            print("done:", words.split()[0])
        live = LiveScale("runs/rows", [image], ["P3", "P4", "P5", "P6", "P7"], imports=["mine.py"])
        assert live.explorer.status == "iteration 20"
        """,
}


def start(folder, *words, **settings):
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    # -P: a module in the folder is found because it was named, not because Python was started there
    command = [sys.executable, "-P", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=env, **pipes, **settings)


def done(process):
    """What a process printed; it must have ended well."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out


def lab(folder, *words):
    return start(folder, "-m", "dyhead_lab.cli", *words)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The student's folder after ``dyhead-lab train mine.py``, which was killed once and started again."""
    folder = tmp_path_factory.mktemp("student")
    for name, text in FILES.items():
        (folder / name).write_text(dedent(text).lstrip(), encoding="utf-8")
    first = lab(folder, "train", "mine.py")
    checkpoint = folder / "runs/rows/last.pt"
    while not checkpoint.exists():
        assert first.poll() is None, first.communicate()[1][-3000:]
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    killed_at = read(checkpoint, CHECKPOINT)["iteration"]
    return folder, killed_at, done(lab(folder, "train", "mine.py"))


def test_a_killed_run_continues_to_its_end(student):
    folder, killed_at, printed = student
    assert killed_at < 20 and f"continuing at iteration {killed_at} of 20" in printed
    assert f"from {folder / 'mine.py'}" in printed  # the command says which file it trains
    assert read(folder / "runs/rows/last.pt", CHECKPOINT)["iteration"] == 20


def test_run_and_weights_name_what_they_were_made_of(student):
    run = student[0] / "runs/rows"
    origin, weights = read_json(run / "run.json"), read(run / "weights.pt", WEIGHTS)
    for kept in (origin, weights):
        assert kept["detector"] == "dyhead_lab.detectors.one_stage.atss:atss" and kept["dataset"] == "dots:dots"
        assert kept["settings"]["model"]["dyhead"] == {"extra": {"import": "row_attention:RowAttention"}}
    assert origin["file"] == str(student[0] / "mine.py")
    assert origin["data"]["train"] == {"class": "dots:Dots", "images": 8}
    assert weights["categories"] == ["small", "large"]


def test_another_process_evaluates_it(student):
    printed = done(lab(student[0], "eval", "runs/rows", "--import", "mine.py"))
    assert "on dots:Dots (4 images)" in printed and "AP50" in printed and "large" in printed


def test_another_process_loads_it_and_looks_at_its_sampling_points(student):
    printed = done(start(student[0], "look.py", "runs/rows"))
    refusal = next(line for line in printed.splitlines() if line.startswith("refused:"))
    assert "row_attention:RowAttention" in refusal and "--import row_attention.py" in refusal
    assert f"trained from {student[0] / 'mine.py'}" in refusal
    points, layers = (int(word) for word in printed.split("points:")[1].split() if word.isdigit())
    assert points == 9 and layers > 0  # the taps of a 3x3 convolution


def test_every_command_takes_it(student):
    printed = done(start(student[0], "commands.py"))
    words = [line.split()[1] for line in printed.splitlines() if line.startswith("done:")]
    assert words == ["errors", "detect", "compare", "zoo", "train", "bench", "efficiency"]
    assert (student[0] / "found/one.png").exists() and (student[0] / "runs/rows/errors").is_dir()


def test_an_experiment_of_a_file_ablates_it(student):
    settings = ("--set", "iterations=2", "--set", "evaluate_every=2")
    printed = done(lab(student[0], "experiment", "ablation.py", *settings))
    assert "without" in printed and "with" in printed
    folder = student[0] / "runs/experiments/row_ablation"
    result = read_json(folder / "with/seed0/result.json")
    assert result["settings"]["model"]["dyhead"] == {"extra": {"import": "row_attention:RowAttention"}}
    assert read_json(folder / "without/seed0/result.json")["settings"]["model"]["dyhead"] == {}
    assert (folder / "row_ablation.json").exists()
