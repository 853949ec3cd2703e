"""How much memory tensors of the meta device would take, counted as they come and go.

A meta tensor has a shape and no values, but its life is that of a real one: autograd keeps it for
the backward pass, the last reference frees it. Summing the sizes of what lives at the same time
gives the memory that a run would need, without running it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class MemoryTracker(TorchDispatchMode):
    """Counts the bytes of tensors made while it is active and still referenced.

    Attributes
    ----------
    now, peak : int
        Bytes at this moment, and the largest sum since the last :meth:`restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def restart(self) -> None:
        """Begin a new search for the peak from what lives now."""
        self.peak = self.now

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation and note the storages that it makes."""
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                # What was there before, such as weights, may come back as a view.
                self._note(value.untyped_storage(), counted=False)
        if func is torch.ops.aten._local_scalar_dense.default and _is_mask(args[0]):
            # Older transformers ask whether all words of a mask are used: here they are.
            result: Any = True
        else:
            result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.device.type == "meta":
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage, *, counted: bool = True) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if counted else 0
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Fused(torch.autograd.Function):
    """Attention as fused kernels keep it: inputs and output, never the matrix of scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, bias, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, bias, _ = ctx.saved_tensors
        # What was expanded over the batch or the heads gets a gradient of full size first.
        made = [x.new_empty(x.shape) for x in inputs]
        return *made, None if bias is None else bias.new_empty(bias.shape)


_HALF = (
    F.linear,
    F.conv1d,
    F.conv2d,
    F.conv3d,
    torch.matmul,
    torch.bmm,
    torch.einsum,
    torch.baddbmm,
    F.multi_head_attention_forward,
)
_FULL = (F.layer_norm, F.group_norm, F.softmax, F.log_softmax, F.mse_loss, F.normalize)
_FULL_METHODS = (Tensor.softmax, Tensor.log_softmax, Tensor.sum, Tensor.norm)


class DevicePrecision(TorchFunctionMode):
    """What a real device does that the meta device lacks: fused attention, mixed precision.

    Parameters
    ----------
    mixed : bool
        Cast as ``torch.autocast`` to bfloat16 does: products of matrices and filters in 16 bits,
        normalizations, softmax and losses in 32. The meta device has no autocast, so that the
        CPU's stands for it: what switches that off computes in 32 bits.
    """

    def __init__(self, mixed: bool) -> None:
        super().__init__()
        self._autocast = torch.autocast("cpu", torch.bfloat16, enabled=mixed)

    @property
    def mixed(self) -> bool:
        """Whether products are in 16 bits at this moment."""
        return torch.is_autocast_enabled("cpu")

    def __enter__(self) -> DevicePrecision:
        """Begin to cast."""
        self._autocast.__enter__()
        return super().__enter__()

    def __exit__(self, *problem: Any) -> None:
        """End casting."""
        super().__exit__(*problem)
        self._autocast.__exit__(*problem)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function of torch."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if self.mixed and func in (*_HALF, Tensor.__matmul__, Tensor.matmul):
            args, kwargs = _cast((args, kwargs), torch.bfloat16)
        elif self.mixed and func in (*_FULL, *_FULL_METHODS):
            args, kwargs = _cast((args, kwargs), torch.float32)
        return func(*args, **kwargs)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        bias = attn_mask
        if self.mixed:
            query, key, value, bias = _cast((query, key, value, bias), torch.bfloat16)
        if bias is not None:
            bias = bias.expand(*query.shape[:-1], key.shape[-2])
        out: Tensor = _Fused.apply(query, key, value, bias)
        return out


def checkpoint_contexts(mixed: bool) -> Callable[[], tuple[Any, Any]]:
    """Return the contexts of a block that is computed twice, for ``torch.utils.checkpoint``.

    The backward pass leaves the modes around it, so that the second time needs one of its own.

    Parameters
    ----------
    mixed : bool
        As :class:`DevicePrecision`'s.
    """
    return lambda: (nullcontext(), DevicePrecision(mixed))


def _cast(values: Any, dtype: torch.dtype) -> Any:
    return tree_map_only(Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, values)


def nbytes(tensors: Any) -> int:
    """Bytes of tensors, each storage once.

    Parameters
    ----------
    tensors : iterable of Tensor
        Those shared by several names count once.
    """
    return sum({x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in tensors}.values())


def _is_mask(value: Tensor) -> bool:
    """Tell whether a tensor without content would be true or false."""
    return value.device.type == "meta" and value.dtype == torch.bool
