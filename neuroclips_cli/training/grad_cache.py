"""A batch taken through the network in pieces, with the gradient of the whole batch.

Contrastive losses compare all rows of a batch, so that the losses of its parts do not add up to
its own. Here every piece runs twice: first without gradients, to know all rows' outputs; then
with them, and the loss of the whole batch sends its gradient into that piece alone (GradCache,
Gao et al. 2021). The sum is the gradient of the batch; only a piece's activations are kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neuroclips_cli.training.batch_sharding import BatchShard


class MicroBatchShard(BatchShard):
    """The piece of a batch that is under way.

    Parameters
    ----------
    size : int
        Number of pieces.
    """

    def __init__(self, size: int) -> None:
        super().__init__(0, size)
        self.collecting = False
        self._outputs: list[Tensor] = []
        self._asked = 0

    def begin(self) -> None:
        """Forget the outputs of the batch before."""
        self._outputs.clear()

    def rows(self, total: int) -> slice:
        """Begin the forward pass of a piece; return its rows."""
        self._asked = 0
        return super().rows(total)

    def whole(self, values: Tensor, numbers: Tensor | slice, total: int) -> Tensor:
        """Put this piece's rows among those of all pieces; parameters as :class:`BatchShard`'s."""
        index, self._asked = self._asked, self._asked + 1
        if isinstance(numbers, slice):
            numbers = torch.arange(numbers.start, numbers.stop, device=values.device)
        if not self.collecting:
            return self._outputs[index].index_copy(0, numbers, values)
        if index == len(self._outputs):
            self._outputs.append(values.new_zeros((total, *values.shape[1:])))
        self._outputs[index][numbers] = values
        return self._outputs[index]


def num_micro_batches(batch_size: int, micro_batch_size: int) -> int:
    """Return into how many pieces a batch is cut; 0 rows at once takes it whole."""
    return -(-batch_size // micro_batch_size) if micro_batch_size else 1


def grad_cache_backward(
    forward: Callable[[], dict[str, Tensor]],
    backward: Callable[[Tensor], None],
    share: MicroBatchShard,
) -> dict[str, Tensor]:
    """Add the gradient of a whole batch to the weights' gradients, piece by piece.

    Parameters
    ----------
    forward : callable
        The batch's losses, for the piece that ``share`` is at.
    backward : callable
        Takes ``loss``.
    share : MicroBatchShard
        That of the objective.

    Returns
    -------
    dict of str to Tensor
        The losses of the batch.
    """
    states = _random_states()
    share.begin()
    share.collecting = True
    with torch.no_grad():
        for piece in range(share.size):
            share.rank = piece
            _restore(states)
            forward()
    share.collecting = False
    for piece in range(share.size):
        share.rank = piece
        _restore(states)
        losses = forward()
        backward(losses["loss"])
    return {name: value.detach() for name, value in losses.items()}


def _random_states() -> tuple[Tensor, list[Tensor]]:
    """Every pass of a batch draws the same numbers: those of one pass."""
    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if gpu else []


def _restore(states: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(states[0])
    if states[1]:
        torch.cuda.set_rng_state_all(states[1])
