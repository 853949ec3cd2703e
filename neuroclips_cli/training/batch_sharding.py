"""How several processes take one training step together: the step of one process, dealt out.

Every process draws the whole batch and all random numbers, so that nothing depends on how many
there are. Each sends its own rows through the network; what comes out is put together, and every
process computes the loss of the whole batch, contrastive terms included. Its gradient reaches
the process's own rows only; the sum over the processes is the gradient of one process.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from neuroclips_cli.runtime import distributed


class BatchShard:
    """The rows of a batch that this process computes.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are; by default those of the launcher.
    """

    def __init__(self, rank: int | None = None, size: int | None = None) -> None:
        self.rank = distributed.get_rank() if rank is None else rank
        self.size = distributed.world_size() if size is None else size
        self.total = 0

    def rows(self, total: int) -> slice:
        """Begin a batch of ``total`` rows; return which of them are this process's."""
        self.total = total
        return self.own()

    def own(self) -> slice:
        """Return this process's rows of the batch that was begun."""
        bounds = [(rank * self.total) // self.size for rank in (self.rank, self.rank + 1)]
        return slice(*bounds)

    def places(self, chosen: Tensor) -> Tensor:
        """Return where in ``chosen``, numbers of rows of the batch, this process's rows stand."""
        if self.size == 1:
            return torch.arange(len(chosen), device=chosen.device)
        own = self.own()
        return ((chosen >= own.start) & (chosen < own.stop)).nonzero().flatten()

    def whole(self, values: Tensor, numbers: Tensor | slice, total: int) -> Tensor:
        """Put the rows of all processes together.

        Parameters
        ----------
        values : Tensor
            ``(own, ...)``, this process's rows.
        numbers : Tensor or slice
            ``(own,)`` int64, which rows they are.
        total : int
            Rows of all processes.

        Returns
        -------
        Tensor
            ``(total, ...)``; gradients reach ``values`` and no other process's rows.
        """
        if self.size == 1:
            return values
        if isinstance(numbers, slice):
            numbers = torch.arange(numbers.start, numbers.stop, device=values.device)
        with torch.no_grad():
            everything = values.new_zeros((total, *values.shape[1:]))
            everything[numbers] = values.detach()
            dist.all_reduce(everything)
        return everything.index_copy(0, numbers, values)


class ConsistentDropout(nn.Module):
    """Dropout that leaves out what a single process would, whoever computes the row.

    Parameters
    ----------
    probability : float
        Of each number to become 0.
    share : BatchShard
        Tells which rows these are; a row of the batch may be several consecutive rows here.
    """

    def __init__(self, probability: float, share: BatchShard) -> None:
        super().__init__()
        self.probability, self.share = probability, share

    def forward(self, x: Tensor) -> Tensor:
        """Drop from ``x``, whose first axis are this process's rows."""
        if not self.training or not self.probability:
            return x
        own = self.share.own()
        each = len(x) // (own.stop - own.start)
        shape = (self.share.total * each, *x.shape[1:])
        kept = F.dropout(torch.ones(shape, dtype=x.dtype, device=x.device), self.probability, True)
        return x * kept[own.start * each : own.stop * each]


def share_dropout(model: nn.Module, share: BatchShard) -> None:
    """Let every dropout layer know its process's rows, in place.

    Layers that did so in an earlier phase follow the new ``share``.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConsistentDropout):
                child.share = share
            elif isinstance(child, nn.Dropout) and share.size > 1:
                setattr(module, name, ConsistentDropout(child.p, share))
