"""Problems for both operators, the backends present, and how two answers are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dyhead_lab.ops import deform_conv2d, ms_deform_attn
from dyhead_lab.ops.backends import present
from dyhead_lab.ops.numba_reference import loops

#: The backends that are held against the formula on this machine.
BACKENDS = [backend for backend in present() if backend != "formula"]

#: Relative norm. Sums of a few hundred terms in another order; halves are rounded once at the end.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 2e-2}


def device_of(backend: str) -> str:
    return "cuda" if backend == "cuda" else "cpu"


def spread(tensor: Tensor) -> Tensor:
    """The same numbers with gaps between them in memory."""
    wide = tensor.new_zeros(*tensor.shape[:-1], 2 * tensor.shape[-1])
    wide[..., ::2] = tensor
    return wide[..., ::2]


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "spread": spread,
    "channels_last": channels_last,
}


@dataclass(frozen=True)
class Conv:
    """A deformable convolution. ``places``: where samples lie, "between" pixels, on "integer" positions or "far".

    ``exact``: offset and mask are float32 beside halves.
    """

    B: int = 2
    C: int = 8
    Co: int = 6
    size: tuple[int, int] = (7, 6)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    G: int = 1
    masked: bool = True
    exact: bool = False
    places: str = "between"
    layout: str = "contiguous"
    seed: int = 0

    def output_size(self) -> tuple[int, int]:
        extents = zip(self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True)
        Ho, Wo = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in extents)
        return Ho, Wo

    def tensors(self, dtype: torch.dtype, device: str = "cpu") -> dict[str, Tensor]:
        """input, offset, weight, bias and, for version 2, mask."""
        generator = torch.Generator().manual_seed(self.seed)
        draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
        Ho, Wo = self.output_size()
        K = self.kernel[0] * self.kernel[1]
        offset = draw(self.B, 2 * self.G * K, Ho, Wo) * 1.5
        if self.places == "integer":
            offset = offset.round()
        if self.places == "far":
            offset = offset * 40
        tensors = {
            "input": draw(self.B, self.C, *self.size),
            "offset": offset,
            "weight": draw(self.Co, self.C // self.groups, *self.kernel) / (self.C * K) ** 0.5,
            "bias": draw(self.Co),
        }
        if self.masked:
            tensors["mask"] = draw(self.B, self.G * K, Ho, Wo).sigmoid()
        of_points = torch.promote_types(dtype, torch.float32) if self.exact else dtype
        dtypes = {name: of_points if name in ("offset", "mask") else dtype for name in tensors}
        return {name: LAYOUTS[self.layout](t.to(device, dtypes[name])) for name, t in tensors.items()}

    def run(self, tensors: dict[str, Tensor], backend: str | None) -> Tensor:
        steps = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return deform_conv2d(**tensors, **steps, backend=backend)


@dataclass(frozen=True)
class Attention:
    """A multi-scale deformable attention. ``places``: samples "between" pixels, on the "border", or "far" outside."""

    B: int = 2
    levels: tuple[tuple[int, int], ...] = ((5, 6), (3, 2), (1, 1))
    Q: int = 7
    M: int = 3
    P: int = 2
    D: int = 8
    places: str = "between"
    layout: str = "contiguous"
    seed: int = 0

    def tensors(self, dtype: torch.dtype, device: str = "cpu") -> dict[str, Tensor]:
        """value, sampling_locations, attention_weights; halves get their locations and weights in float32."""
        generator = torch.Generator().manual_seed(self.seed)
        L, N = len(self.levels), sum(H * W for H, W in self.levels)
        points = (self.B, self.Q, self.M, L, self.P)
        if self.places == "border":  # quarters: on pixels, on edges, and exactly one pixel outside
            locations = torch.randint(-2, 7, (*points, 2), generator=generator).double() / 4
        else:
            reach = 40 if self.places == "far" else 1.4
            locations = (torch.rand(*points, 2, generator=generator, dtype=torch.float64) - 0.5) * reach + 0.5
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        tensors = {
            "value": torch.randn(self.B, N, self.M, self.D, generator=generator, dtype=torch.float64).to(dtype),
            "sampling_locations": locations.to(exact),
            "attention_weights": torch.rand(points, generator=generator, dtype=torch.float64).to(exact),
        }
        return {name: LAYOUTS[self.layout](t.to(device)) for name, t in tensors.items()}

    def run(self, tensors: dict[str, Tensor], backend: str | None) -> Tensor:
        return ms_deform_attn(tensors["value"], *levels_of(self.levels), *list(tensors.values())[1:], backend)


def levels_of(levels: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """spatial_shapes and level_start_index."""
    shapes = torch.tensor(levels)
    sizes = shapes.prod(1)
    return shapes, sizes.cumsum(0) - sizes


def answers(case: Any, tensors: dict[str, Tensor], backend: str | None) -> dict[str, Tensor]:
    """The output, and the gradient to every tensor for a fixed random gradient of the output."""
    leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}
    out = case.run(leaves, backend)
    grads = torch.autograd.grad(out, list(leaves.values()), cotangent(out.shape).to(out.device, out.dtype))
    return {"out": out.detach(), **{f"grad_{name}": g for name, g in zip(leaves, grads, strict=True)}}


def cotangent(shape: torch.Size) -> Tensor:
    """The gradient of an output in these tests, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def answers_of_loops(case: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same from the literal loops, which know neither version 1 nor the bias of a convolution."""
    arrays = [t.numpy() for name, t in tensors.items() if name != "bias"]
    dtype = tensors["input" if isinstance(case, Conv) else "value"].dtype
    if isinstance(case, Conv):
        steps = case.stride, case.padding, case.dilation
        out = torch.from_numpy(loops.deform_conv2d(*arrays, *steps))
        grads = loops.deform_conv2d_backward(cotangent(out.shape).to(dtype).numpy(), *arrays, *steps)
    else:
        value, *points = arrays
        levels = [t.numpy() for t in levels_of(case.levels)]
        out = torch.from_numpy(loops.ms_deform_attn(value, *levels, *points))
        grad = cotangent(out.flatten(2).shape).view(out.shape).to(dtype).numpy()
        grads = loops.ms_deform_attn_backward(grad, value, *levels, *points)
        out = out.flatten(2)
    if "bias" in tensors:
        out = out + tensors["bias"].view(-1, 1, 1)
    names = [name for name in tensors if name != "bias"]
    return {"out": out, **{f"grad_{name}": torch.from_numpy(g) for name, g in zip(names, grads, strict=True)}}


def distance(got: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected; 0 where both are zero."""
    difference = (got.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(1e-12)) if got.numel() else 0.0


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name in expected:
        assert got[name].shape == expected[name].shape, name
        assert got[name].dtype == expected[name].dtype, name
        assert distance(got[name], expected[name]) <= tolerance, name
