"""One run on several processes: `accelerate launch -m training.dpo ...` or torchrun.

Each process takes a part of every optimizer batch's micro-batches. Shares of the loss are known
beforehand, so that gradients are added, never averaged: the numbers are those of one process.
Weights are whole on every process, or sharded over them (FSDP2) if ACCELERATE_USE_FSDP is set, as
accelerate's own configuration sets it.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's place among those of the run."""

    rank: int = 0
    count: int = 1
    sharded: bool = False

    @property
    def first(self) -> bool:
        """The one that writes files and talks."""
        return self.rank == 0

    def device(self) -> torch.device:
        return torch.device("cuda", _local_rank()) if torch.cuda.is_available() else torch.device("cpu")

    def mine(self, parts: Sequence[T]) -> list[tuple[T, bool]]:
        """(part, counted) for this process. Where weights are sharded, every process must make the same
        number of passes: those that run out make their last again, not counted."""
        own = [(part, True) for part in parts[self.rank :: self.count]]
        if self.sharded:
            wanted = -(-len(parts) // self.count)
            own += [(own[-1][0] if own else parts[0], False)] * (wanted - len(own))
        return own

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def least(self, value: int) -> int:
        """The smallest of the processes' values."""
        found = torch.tensor(value)
        if self.count > 1:
            dist.all_reduce(found, op=dist.ReduceOp.MIN)
        return int(found)

    def gradients_added(self, model: Any) -> None:
        """Make every gradient the sum over the processes."""
        if self.count == 1 or self.sharded:
            return  # FSDP has reduced them in the backward pass: see scale()
        for parameter in model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:  # no part of this batch was ours
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)

    def scale(self) -> float:
        """What a loss is multiplied with before its backward pass: FSDP averages gradients."""
        return float(self.count) if self.sharded else 1.0

    def gathered(self, values: dict[bytes, torch.Tensor]) -> dict[bytes, torch.Tensor]:
        """The union of every process's values."""
        if self.count == 1:
            return values
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, values)
        return {key: value for part in parts for key, value in part.items()}

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()

    def reshard(self, model: Any) -> None:
        """After a pass without a backward pass: the root's weights are still whole, and not those that the
        optimizer knows."""
        if self.sharded:
            from torch.distributed.fsdp import FSDPModule

            for module in model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    def shard(self, model: Any) -> None:
        """Spread the model's weights over the processes, layer by layer."""
        if not self.sharded:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device().type, (self.count,))
        inner = unwrapped(model)
        for layer in [m for m in inner.modules() if type(m).__name__ in (inner._no_split_modules or ())]:
            fully_shard(layer, mesh=mesh)
        fully_shard(inner, mesh=mesh)


def join() -> Processes:
    """Join the other processes, if a launcher has started several (WORLD_SIZE)."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not dist.is_initialized():
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(_local_rank())
        # figures are added up on the CPU, gradients where they are
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    # transformers would load the weights in the first process alone, and leave the others' empty
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")
    return Processes(dist.get_rank(), dist.get_world_size(), sharded)


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()


def leave() -> None:
    with suppress(RuntimeError):
        if dist.is_initialized():
            dist.destroy_process_group()


def unwrapped(model: Any) -> Any:
    """The transformers model within a PEFT model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A weight, gathered if it is sharded: all processes must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
