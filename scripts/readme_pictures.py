"""Make the pictures of README.md from the shipped weights: ``.venv/bin/python scripts/readme_pictures.py``."""

import torch

from dyhead_lab.data.photographs import photograph
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.paths import SAMPLE
from dyhead_lab.trace import trace
from dyhead_lab.training.checkpoint import RunLog
from dyhead_lab.views.curves import run_figure
from dyhead_lab.views.figures import Picture, detections_figure
from dyhead_lab.views.live import RECORDED
from dyhead_lab.views.scale_weights import gates_figure, gates_of
from dyhead_lab.zoo import load_trained

SEED, INDICES = 2026, (0, 3, 5)  # neither in training nor in validation
LEVELS = ("P3", "P4", "P5", "P6")
PHOTOGRAPHS = ("workshop", "astronaut", "cat")


def main() -> None:
    trained = load_trained("quickstart")
    images = [torch.from_numpy(draw_image(SEED, index)[0]).permute(2, 0, 1) / 255 for index in INDICES]
    with torch.no_grad(), trace(trained.model) as seen:
        detections = trained.model(images)
    everyday, photographs = load_trained("everyday"), list(map(photograph, PHOTOGRAPHS))
    with torch.no_grad():
        objects = [everyday.model([image])[0] for image in photographs]
    figures = {
        "photographs": (
            detections_figure(photographs, objects, everyday.categories, threshold=0.3, height=260),
            "Photographs of a workshop, an astronaut and a cat with the boxes that the detector everyday found.",
        ),
        "detections": (
            detections_figure(images, detections, trained.categories, threshold=0.5, height=320),
            "Three pictures of textured shapes with the boxes that the quickstart detector found.",
        ),
        "scale_weights": (
            gates_figure(gates_of(seen), LEVELS),
            "The learned gate of every branch on the levels P3 to P6 of the quickstart detector.",
        ),
        "bccd_curves": (
            run_figure(RunLog.entries(RECORDED)),
            "Losses, learning rate, AP and scale ratios of a training from scratch on photographs of blood cells.",
        ),
    }
    for name, (figure, alt) in figures.items():
        path = SAMPLE / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Picture(figure, alt, colours=256 if name == "photographs" else None).png)
        print(path)


if __name__ == "__main__":
    main()
