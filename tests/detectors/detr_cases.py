"""The official models of the oracle files: their weights, features and targets, drawn again."""

import re

import torch

from tests.oracles import draw, load, weight

IMAGE_HW = (160, 208)
CHANNELS_AND_STRIDES = ((16, 8), (24, 16), (32, 32))


class OracleCase:
    """One file pair: ``arrays`` and ``facts`` of the official model, and what it was given."""

    def __init__(self, name):
        self.arrays, self.facts = load(name)
        self.seed = self.facts["seed"]
        self.config = self.facts["config"]

    def state_dict(self):
        """Official names -> weights; a second name of a head takes the weights of the first."""
        aliases = self.facts["aliases"]
        return {
            name: torch.from_numpy(weight(aliases.get(name, name), shape, self.seed))
            for name, shape in self.facts["keys"].items()
        }

    def features(self):
        H, W = IMAGE_HW
        return [
            torch.from_numpy(draw(f"c{i}", (2, C, -(-H // stride), -(-W // stride)), self.seed))
            for i, (C, stride) in enumerate(CHANNELS_AND_STRIDES)
        ]

    def array(self, name):
        return torch.from_numpy(self.arrays[name])

    def parameter(self, model, official):
        """The parameter that the official code calls ``official``; heads stand at the top in ours."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        names = [official, *(alias for alias, name in self.facts["aliases"].items() if name == official)]
        return next(parameters[name] for name in names if name in parameters)


def padding_mask():
    """Image 0 is full, image 1 is valid in its top-left 128 x 176."""
    mask = torch.zeros(2, *IMAGE_HW, dtype=torch.bool)
    mask[1] = True
    mask[1, :128, :176] = False
    return mask


def targets():
    """Objects of both images, boxes normalised cxcywh."""
    return [
        {
            "labels": torch.tensor([1, 3, 5]),
            "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.4, 0.2], [0.5, 0.5, 0.1, 0.1]]),
        },
        {"labels": torch.tensor([0]), "boxes": torch.tensor([[0.25, 0.6, 0.3, 0.3]])},
    ]


def bare(name):
    """``loss_ce_enc_0`` -> ``loss_ce``."""
    return re.match(r"loss_(ce|bbox|giou|mask_prediction)", name)[0]


def assert_losses_and_gradients(case, model, outputs):
    """Every term, the total and every gradient norm, to 1e-4 relative: float32 in another order of summation."""
    terms = model.criterion(outputs, targets())
    assert set(terms) == set(case.facts["losses"])
    for name, value in case.facts["losses"].items():
        torch.testing.assert_close(terms[name].item(), value, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    weighted = model.criterion.weigh(terms)
    assert set(weighted) == {name for name in terms if name.startswith("loss_")}
    total = sum(weighted.values())
    torch.testing.assert_close(total.item(), case.facts["total"], rtol=1e-4, atol=0)
    total.backward()
    for name, norm in case.facts["grad_norms"].items():
        ours = case.parameter(model, name).grad.norm().item()
        torch.testing.assert_close(ours, norm, rtol=1e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
