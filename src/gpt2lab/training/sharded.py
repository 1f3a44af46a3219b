"""A share of every weight, gradient and optimizer state in each process (FSDP2, `fully_shard`).

Tensors are dealt out by rows. A block of the model is put together when it is computed, forward and backward.
AdamW works on rows as they lie. Muon needs whole matrices: each has one process as its owner, which receives
all rows of the gradient, keeps the whole matrix and its momentum, steps it, and sends the new rows back. That
costs each matrix two trips a step (FSDP itself makes two or three a micro-batch) and shares Muon's work out;
owners hold one more copy of their matrices.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from gpt2lab.model.gpt import GPT
from gpt2lab.training.parallel import Placement, model_of
from gpt2lab.training.world import World


class Sharded(Placement):
    """A model in shares; see the module's docstring."""

    name = "fsdp"
    gathers = True

    def __init__(self, model: GPT, world: World) -> None:
        # Imported here, because one process alone should not wait for them.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        super().__init__(model, world)
        self._mesh = init_device_mesh(model.wte.weight.device.type, (world.size,))
        self._shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self._shards: dict[str, nn.Parameter] = {}  # what lies here of the tensors that are dealt out
        self._owners: dict[str, int] = {}  # which process has which whole matrix
        self._matrices: dict[str, nn.Parameter] = {}  # those that this one has
        for module in (*model.h, model):
            sharded = fully_shard(module, mesh=self._mesh)
            sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other
            sharded.set_gradient_divide_factor(1.0)
        register_fsdp_forward_method(model, "hidden")  # a loss may call it instead of the model

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """See `Placement`."""
        self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
        return nullcontext()

    def clip_gradients(self, limit: float) -> Tensor:
        """See `Placement`."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = _whole(nn.utils.get_total_norm(gradients))
        nn.utils.clip_grads_with_norm_(self.model.parameters(), limit, norm)
        return norm

    def parameters(self, undivided: Callable[[str, Tensor], bool]) -> dict[str, nn.Parameter]:
        """See `Placement`: the rows that lie here, and whole the matrices that this process owns."""
        load = [0] * self.world.size
        for name, parameter in self._dealt_out():
            if not undivided(name, parameter):
                self._shards[name] = nn.Parameter(_local(parameter))
                continue
            whole = _whole(parameter)
            self._owners[name] = load.index(min(load))
            load[self._owners[name]] += whole.numel()
            if self._owners[name] == self.world.rank:
                self._matrices[name] = nn.Parameter(whole)
        return self._shards | self._matrices

    def before_update(self) -> None:
        """See `Placement`."""
        gradients = {name: _local(parameter.grad) for name, parameter in self.model.named_parameters()}
        for name, shard in self._shards.items():
            shard.grad = gradients[name]
        for matrix in self._matrices.values():
            matrix.grad = torch.empty_like(matrix)
        wholes = {name: matrix.grad for name, matrix in self._matrices.items()}
        self._exchange(gradients, wholes, to_owners=True)

    def after_update(self) -> None:
        """See `Placement`."""
        weights = {name: _local(parameter) for name, parameter in self._dealt_out()}
        wholes = {name: matrix.detach() for name, matrix in self._matrices.items()}
        self._exchange(weights, wholes, to_owners=False)

    def _exchange(self, shards: Mapping[str, Tensor], wholes: Mapping[str, Any], *, to_owners: bool) -> None:
        """Copy the rows of every owned matrix between where they lie and where it is whole."""
        me, operations = self.world.rank, []
        for name, owner in self._owners.items():
            for rank in range(self.world.size):
                rows = self._rows(name, rank)
                if rows.start == rows.stop or me not in (owner, rank):
                    continue
                if owner == rank:
                    source, target = shards[name], wholes[name][rows]
                    (target if to_owners else source).copy_(source if to_owners else target)
                elif me == owner:
                    kind = dist.irecv if to_owners else dist.isend
                    operations.append(dist.P2POp(kind, wholes[name][rows], rank))
                else:
                    kind = dist.isend if to_owners else dist.irecv
                    operations.append(dist.P2POp(kind, shards[name], owner))
        if operations:
            for work in dist.batch_isend_irecv(operations):
                work.wait()

    def _rows(self, name: str, rank: int) -> slice:
        """The rows of a tensor that lie in process `rank`: FSDP cuts as `torch.chunk` does."""
        height = self._shapes[name][0]
        share = -(-height // self.world.size)
        return slice(min(rank * share, height), min((rank + 1) * share, height))

    def _dealt_out(self) -> Iterator[tuple[str, Tensor]]:
        """The model's tensors as they lie between two computations."""
        self.model.reshard()  # type: ignore[operator]  # `fully_shard` gave it that method
        for name, parameter in self.model.named_parameters():
            yield name, parameter.detach()

    def own_weights(self) -> Iterator[Tensor]:
        """See `Placement`."""
        for _, parameter in self._dealt_out():
            yield _local(parameter)

    def whole_model(self) -> GPT | None:
        """See `Placement`: gathered tensor by tensor into the first process's main memory."""
        tensors = {}
        for name, parameter in self._dealt_out():
            whole = _whole(parameter)
            if self.world.is_first:
                tensors[name] = whole.to("cpu", copy=True)
        return model_of(self.model.config, tensors) if self.world.is_first else None

    def whole_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Placement`; in main memory."""
        from torch.distributed.tensor import DTensor, Shard

        whole = {}
        for key in [key for key in state if _name(key) in self._shards]:
            value = state[key]
            if value.dim():
                shape = self._shapes[_name(key)]
                stride = torch.empty(shape, device="meta").stride()
                dealt = DTensor.from_local(value, self._mesh, [Shard(0)], shape=shape, stride=stride)
                value = dealt.full_tensor()
            if self.world.is_first:
                whole[key] = value.to("cpu", copy=True)
        return whole | self._from_owners({key: state[key] for key in state if _name(key) not in self._shards})

    def _from_owners(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What every process holds alone, brought to the first."""
        lists: list[Any] = [None] * self.world.size
        shapes = [(key, value.shape) for key, value in own.items()]
        dist.all_gather_object(lists, shapes, group=self.world.words)
        found = {}
        if self.world.is_first:
            found = {key: value.to("cpu", copy=True) for key, value in own.items()}
        for rank, entries in enumerate(lists[1:], start=1):
            for key, shape in entries:
                if self.world.rank == rank:
                    dist.send(own[key].contiguous(), 0)
                elif self.world.is_first:
                    value = torch.empty(shape, device=self.model.wte.weight.device)
                    dist.recv(value, rank)
                    found[key] = value.cpu()
        return found

    def own_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Placement`."""
        own = {}
        for key, value in state.items():
            name = _name(key)
            if name in self._shards:
                # Rows by themselves: a view would keep all of the tensor in memory.
                own[key] = value[self._rows(name, self.world.rank)].clone() if value.dim() else value
            elif name in self._matrices or name.rpartition(".")[0] in self._matrices:  # or a part: its .q
                own[key] = value
        return own


def _name(key: str) -> str:
    """The parameter to which a tensor of optimizer state belongs."""
    return key.rpartition("/")[0]


def _local(tensor: Any) -> Tensor:
    """The rows of a DTensor that lie in this process, in the same memory."""
    local: Tensor = tensor.to_local()
    return local


def _whole(tensor: Any) -> Tensor:
    """All rows of a DTensor, on this process's device."""
    whole: Tensor = tensor.full_tensor()
    return whole
