"""How an operator is registered with PyTorch: its schema, what computes it, its shapes, its gradient.

``torch.library.custom_op`` gives the same to whoever calls. It also looks at every argument and result of every call
for what the tests of this house look for once, and that costs as much time as a small problem itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
) -> Callable[..., Any]:
    """Register an operator; what is returned calls it.

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
    tensors = sum("Tensor" in str(argument.type) for argument in operator._schema.arguments)  # they come first
    recorded = _recorder(gradients or _refusal(name), tensors)

    def of_dispatcher(keyset: Any, *arguments: Any) -> Any:
        def below_autograd(*arguments: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                return operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)

        return recorded(below_autograd, *arguments)

    _LIBRARY.impl(name, of_dispatcher, "Autograd", with_keyset=True)

    def call(*arguments: Any) -> Any:
        return recorded(compute, *arguments) if _is_ordinary(arguments[:tensors]) else operator(*arguments)

    return call


def _is_ordinary(tensors: Sequence[Tensor | None]) -> bool:
    """Whether nobody but autograd takes part in a call: no compiler, no tracer, no mode, no function transform, no
    profiler that wants the operator's name. PyTorch's dispatcher would then go to autograd and to what computes, each
    time by way of C++, which costs as much time as a small problem itself.
    """
    try:
        if torch.compiler.is_compiling() or torch.autograd.profiler._is_profiler_enabled:
            return False
        if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
            return False
        if torch._C._functorch.peek_interpreter_stack() is not None or torch._C._get_tracing_state() is not None:
            return False
    except AttributeError:  # private names: a PyTorch without one of them takes the dispatcher's way, which is right
        return False
    for tensor in tensors:  # loops, here and below: generators cost a call for each tensor
        if tensor is not None and not (type(tensor) in _PLAIN and (tensor.is_cpu or tensor.is_cuda)):
            return False
    return True


_PLAIN = (Tensor, torch.nn.Parameter)


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise RuntimeError(f"dyhead_lab::{name} has no gradient: the operators are differentiated once, not twice")

    return refuse


def _recorder(gradients: Callable[..., Any], tensors: int) -> Callable[..., Any]:
    """What calls ``compute(*arguments)``, and remembers the arguments if a gradient may be asked for.

    The first ``tensors`` of them are tensors.

    The private names are those by which ``torch.library.register_autograd`` does the same.
    """

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, compute: Callable[..., Any], rest: tuple[Any, ...], *of_tensors: Tensor | None) -> Any:
            ctx.save_for_backward(*of_tensors)
            ctx.rest = rest
            return compute(*of_tensors, *rest)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            return None, None, *gradients(*grads, *ctx.saved_tensors, *ctx.rest)[:tensors]

    def recorded(compute: Callable[..., Any], *arguments: Any) -> Any:
        if torch.is_grad_enabled():
            for tensor in arguments[:tensors]:
                if tensor is not None and tensor.requires_grad:
                    return Recorded.apply(compute, arguments[tensors:], *arguments[:tensors])
        return compute(*arguments)

    return recorded
