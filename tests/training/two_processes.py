"""What each of two processes does for ``test_distributed.py``: started by torchrun, it writes down what it saw."""

import sys
from pathlib import Path

import torch
from torch import distributed, nn

from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher
from dyhead_lab.detectors.detr.set_criterion import SetCriterion
from dyhead_lab.training.distributed import BatchNormOfAllProcesses, gather_list

from .tiny import engine_of, make_steps, quick_recipe

SETTINGS = {"optimizer": "sgd", "lr": 0.01, "batch_size": 4, "seed": 3}

#: Larger images: BatchNorm over the two or three pixels of a coarse level would blow rounding errors up.
ACCUMULATING = {**SETTINGS, "accumulate": 2, "model.image_size": 96}


def main(pictures, out):
    torch.set_num_threads(1)
    engine = engine_of(quick_recipe(**SETTINGS), pictures, out)
    rank = engine.accelerator.process_index
    seen = {"losses": make_steps(engine, 3), "records": engine.detect(engine.averaged.module)}
    engine.save()
    accumulating = engine_of(quick_recipe(**ACCUMULATING), pictures, out / "accumulated")
    seen["accumulated"] = make_steps(accumulating, 3)
    seen["set_losses"] = {kind: set_losses(kind, [rank]) for kind in ("focal", "softmax")}
    seen["norm"] = batch_norm_of_unequal_parts(rank, engine.accelerator)
    seen["skipped"] = skip_where_one_process_fails(pictures, out / "skip", rank)
    torch.save(seen, out / f"seen_{rank}.pt")
    distributed.destroy_process_group()


def set_losses(kind, images):
    """Losses of DETR's family for random predictions on some of two images, one of which has no object."""
    generator = torch.Generator().manual_seed(0)
    outputs = {
        "pred_logits": torch.randn(2, 5, 4, generator=generator)[images],
        "pred_boxes": torch.rand(2, 5, 4, generator=generator)[images],
    }
    targets = [{"labels": torch.tensor([1]), "boxes": torch.tensor([[0.4, 0.5, 0.2, 0.3]])}]
    targets.append({"labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)})
    matcher = HungarianMatcher(focal=kind == "focal")
    criterion = SetCriterion(4 if matcher.focal else 3, matcher, {"loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0})
    terms = criterion.weigh(criterion(outputs, [targets[image] for image in images]))
    return {name: value.item() for name, value in terms.items()}


def normalised_parts():
    """A batch norm and the images that the two processes give it: one image, and two larger ones."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    nn.init.normal_(norm.weight)
    return norm, [torch.randn(1, 3, 2, 2), torch.randn(2, 3, 4, 1) * 2 + 1]


def batch_norm_of_unequal_parts(rank, accelerator):
    """Output and input gradient of both processes, and the statistics that they end with."""
    norm, parts = normalised_parts()
    norm.__class__ = BatchNormOfAllProcesses
    x = parts[rank].requires_grad_()
    y = norm(x)
    y.pow(3).sum().backward()
    return {
        "outputs": [y.flatten(2) for y in gather_list([y.detach()], accelerator)],
        "gradients": [g.flatten(2) for g in gather_list([x.grad], accelerator)],
        "state": norm.state_dict(),
    }


def skip_where_one_process_fails(pictures, out, rank):
    """Losses of a step whose batch is broken in process 1 only, and of the next one."""
    engine = engine_of(quick_recipe(**SETTINGS, on_nonfinite="skip"), pictures, out)
    images, targets = next(iter(engine.batches()))
    broken = [torch.full_like(image, float("nan")) for image in images] if rank == 1 else images
    return [engine.step(broken, targets), engine.step(images, targets)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
