"""Which backbone weights belong to, told from their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .state_dicts import StateDict

_RESNET_BLOCK = re.compile(r"(?:layer|res)(\d)\.(\d+)\.conv(\d)\.")
_SWIN_BLOCK = re.compile(r"(?:layers|stages)\.(\d)\.blocks\.(\d+)\.")


class Kind(NamedTuple):
    """What tells one backbone from another."""

    family: str  #: "ResNet" or "Swin Transformer"
    blocks: tuple[int, ...]  #: of each stage
    width: int  #: channels between the convolutions of a block of the first stage, or of the first stage
    convolutions: int = 0  #: in a block


#: What is known by name, built here or not.
KINDS = {
    "resnet18": Kind("ResNet", (2, 2, 2, 2), 64, 2),
    "resnet34": Kind("ResNet", (3, 4, 6, 3), 64, 2),
    "resnet50": Kind("ResNet", (3, 4, 6, 3), 64, 3),
    "resnet101": Kind("ResNet", (3, 4, 23, 3), 64, 3),
    "resnet152": Kind("ResNet", (3, 8, 36, 3), 64, 3),
    "swin_t": Kind("Swin Transformer", (2, 2, 6, 2), 96),
    "swin_s": Kind("Swin Transformer", (2, 2, 18, 2), 96),
    "swin_b": Kind("Swin Transformer", (2, 2, 18, 2), 128),
    "swin_l": Kind("Swin Transformer", (2, 2, 18, 2), 192),
}


def backbone_of(entries: StateDict, body: str, built: Sequence[str]) -> str:
    """The name of the backbone that entries belong to.

    Args:
        entries: of a detector; those of the backbone are called as torchvision, Detectron2, mmdetection or the Swin
            Transformer's authors call them.
        body: what stands before their names.
        built: the names, out of :data:`KINDS`, that the caller can build.

    Raises:
        ValueError: they belong to another backbone; the message says to which.
    """
    kind = _kind({name.removeprefix(body): value for name, value in entries.items() if name.startswith(body)})
    name = next((name for name, known in KINDS.items() if known == kind), None)
    if name is not None and name in built:
        return name
    raise ValueError(f"the backbone of these weights is {_words(kind, name)}; built here: {', '.join(built)}")


def _kind(inside: StateDict) -> Kind | None:
    swin = [match for name in inside if (match := _SWIN_BLOCK.match(name))]
    if swin:
        width = next((len(value) for name, value in inside.items() if name.startswith("patch_embed.proj")), 0)
        return Kind("Swin Transformer", _blocks([(match[1], match[2]) for match in swin]), width)
    found = [match for name in inside if (match := _RESNET_BLOCK.match(name))]
    if not found:
        return None
    first = next((len(value) for name, value in inside.items() if re.match(r"(layer1|res2)\.0\.conv1\.", name)), 0)
    return Kind("ResNet", _blocks([(match[1], match[2]) for match in found]), first, max(int(m[3]) for m in found))


def _blocks(places: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """(stage, block) of every entry -> blocks of each stage, in the order of the stages."""
    stages = sorted({stage for stage, _ in places})
    return tuple(len({block for at, block in places if at == stage}) for stage in stages)


def _words(kind: Kind | None, name: str | None) -> str:
    if kind is None:
        return "none that is known here"
    called = f" ({name})" if name else ""
    return f"a {kind.family}{called} with {', '.join(map(str, kind.blocks))} blocks and {kind.width} channels"
