"""How an operator is registered with PyTorch: its schema, what computes it, its shapes, its gradient.

``torch.library.custom_op`` gives the same to whoever calls. It also looks at every argument and result of every call
for what the tests of this house look for once, and that costs as much time as a small problem itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def is_exported() -> bool:
    """Whether ``torch.export`` is writing a program. ``torch.compile`` is told the same by PyTorch, and is left out: it
    calls the operators.
    """
    return torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()


_LIBRARY = torch.library.Library("dyhead_lab", "FRAGMENT")


def define(
    schema: str,
    compute: Callable[..., Any],
    fake: Callable[..., Any],
    gradients: Callable[..., tuple[Tensor | None, ...]] | None = None,
) -> torch._ops.OpOverload:
    """Register an operator.

    Args:
        schema: ``"name(Tensor x, ...) -> Tensor"``; the operator becomes ``torch.ops.dyhead_lab.name``.
        compute: gets real tensors. What it returns shares no memory with what it gets.
        fake: gives tensors of the right shapes and strides, for the compiler.
        gradients: of (gradient of the output, the operator's arguments): one for each argument, None for those that
            are no tensors. Without it a gradient is asked for in vain, with an error that says so.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"dyhead_lab::{name}", fake, lib=_LIBRARY)
    operator = getattr(torch.ops.dyhead_lab, name).default
    _LIBRARY.impl(name, _recorded(operator, gradients or _refusal(name)), "Autograd", with_keyset=True)
    return operator


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise RuntimeError(f"dyhead_lab::{name} has no gradient: the operators are differentiated once, not twice")

    return refuse


def _recorded(operator: torch._ops.OpOverload, gradients: Callable[..., Any]) -> Callable[..., Any]:
    """What PyTorch calls first: it remembers the arguments if a gradient may be asked for, and hands them on.

    The private names are those by which ``torch.library.register_autograd`` does the same.
    """
    tensors = sum("Tensor" in str(argument.type) for argument in operator._schema.arguments)  # they come first

    def compute(keyset: Any, arguments: tuple[Any, ...]) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *arguments: Any) -> Any:
            ctx.save_for_backward(*arguments[:tensors])
            ctx.rest = arguments[tensors:]
            return compute(keyset, arguments)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            return None, *gradients(*grads, *ctx.saved_tensors, *ctx.rest)

    def record(keyset: Any, *arguments: Any) -> Any:
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in arguments[:tensors]):
            return Recorded.apply(keyset, *arguments)
        return compute(keyset, arguments)

    return record
