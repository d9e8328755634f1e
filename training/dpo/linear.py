"""Linear layers through oneDNN, on CPUs where torch's own matrix product is slow.

torch multiplies fp32 matrices with MKL, which uses half of an AMD processor's vector units (AVX2
where the chip has AVX-512). oneDNN, in the same wheel, asks the chip. Same sums in fp32, in
another order. docs/adr/0006 has the figures.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F


@cache
def onednn_is_faster() -> bool:
    """Decided by the kind of processor, never by a clock: a resumed run must take the same path."""
    cpuinfo = Path("/proc/cpuinfo")
    amd = cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()
    return amd and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def use_onednn(model: torch.nn.Module) -> None:
    """Have the fp32 linear layers of `model` that lie on a CPU computed by oneDNN, and a LoRA layer with its
    adapter in one step."""
    if not onednn_is_faster():
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.forward = partial(_forward, module)  # type: ignore[method-assign]
        elif type(module).__module__ == "peft.tuners.lora.layer" and type(module).__name__ == "Linear":
            module.forward = partial(_lora_forward, module, module.forward)  # type: ignore[method-assign]


def _forward(module: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return linear(x, module.weight, module.bias)


def _lora_forward(module: Any, usual: Callable[..., torch.Tensor], x: torch.Tensor, *more: Any, **named: Any) -> Any:
    """PEFT's own forward for all but the plain case: one adapter that is on and not merged."""
    base, name = module.base_layer, module.active_adapters[0] if len(module.active_adapters) == 1 else None
    plain = (
        name in module.lora_A
        and not (more or named or module.merged or module.disable_adapters or module.lora_variant)
        and type(module.lora_dropout[name]) is torch.nn.Identity
        and type(base) is torch.nn.Linear
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
    )
    if not plain or not x.numel():
        return usual(x, *more, **named)
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    if not _fp32_on_cpu(x, base.weight, a, b):
        return usual(x, *more, **named)
    rows = x.reshape(-1, x.shape[-1])
    found = _LoraLinear.apply(rows, base.weight, base.bias, a, b, module.scaling[name])
    return found.view(*x.shape[:-1], base.weight.shape[0])


def _fp32_on_cpu(*tensors: torch.Tensor) -> bool:
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return plain and not torch.is_autocast_enabled("cpu")


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., n] times weight [m, n] transposed, plus bias [m], as F.linear has it."""
    if not x.numel() or not _fp32_on_cpu(x, weight):
        return F.linear(x, weight, bias)
    return _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], weight.shape[0])


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [n, k] times weight [m, k] transposed, plus bias [m]; x and weight may be transposed views."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(rows if ctx.needs_input_grad[1] else None, weight)
        return product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        rows, weight = ctx.saved_tensors
        to_rows = product(grad, weight.t()) if ctx.needs_input_grad[0] else None
        to_weight = product(grad.t(), rows.t()) if ctx.needs_input_grad[1] else None
        return to_rows, to_weight, grad.sum(0) if ctx.needs_input_grad[2] else None


class _LoraLinear(torch.autograd.Function):
    """rows W^T + scale (rows A^T) B^T, the base W frozen (Hu et al., 2021, equation 3).

    The products with A and B are torch's own: they are too small to pay for a compiled kernel.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        low = rows @ a.t()
        ctx.save_for_backward(rows, weight, a, b, low)
        ctx.scale = scale
        return product(rows, weight, bias).addmm_(low, b.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        rows, weight, a, b, low = ctx.saved_tensors
        back = torch.mm(grad, b).mul_(ctx.scale)
        to_rows = product(grad, weight.t()).addmm_(back, a) if ctx.needs_input_grad[0] else None
        to_weight = product(grad.t(), rows.t()) if ctx.needs_input_grad[1] else None
        to_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        to_b = torch.mm(grad.t(), low).mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        return to_rows, to_weight, to_bias, back.t() @ rows if ctx.needs_input_grad[3] else None, to_b, None
