"""What is computed in bfloat16 and what in float32, on every device.

Products of matrices and filters run in bfloat16 under ``torch.autocast`` where ``run.precision``
and the device allow it. Losses, the softmaxes in them, the VAE, noise schedules and latents are
float32 always: the temperature of 0.006 turns a rounding of bfloat16 in a cosine (0.004) into 0.65
nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from neuroclips_cli.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

BFLOAT16 = "bfloat16"
FLOAT32 = "float32"


def choose_precision(word: str, device: str) -> str:
    """Return in what a device computes products, and let it use TF32 for those in float32.

    Parameters
    ----------
    word : str
        ``auto`` (bfloat16 on CUDA devices that have it, float32 elsewhere), ``bfloat16``,
        ``float32``, or ``highest`` (float32 without TF32, whose products keep 10 bits of 23).
    device : str
        A torch device.

    Returns
    -------
    str
        ``bfloat16`` or ``float32``.

    Raises
    ------
    UserError
        If bfloat16 is asked for and the device lacks it.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = word != "highest"
        torch.backends.cudnn.allow_tf32 = word != "highest"
    there = kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if word == BFLOAT16 and not (there and torch.amp.is_autocast_available(kind)):
        raise UserError(
            f"the device '{device}' does not compute in bfloat16: use --precision auto or float32"
        )
    half = word == BFLOAT16 or (word == "auto" and kind == "cuda" and there)
    return BFLOAT16 if half else FLOAT32


def computes_in_bfloat16(word: str, device: str) -> bool:
    """Tell whether a device computes products in bfloat16; see :func:`choose_precision`."""
    return choose_precision(word, device) == BFLOAT16


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the context in which networks compute in ``precision`` on a device."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == BFLOAT16)


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute in float32 whatever autocast does around it.

    Its tensors in half precision are widened first; all others reach it as they are, so that
    nothing changes where no autocast is active.

    Parameters
    ----------
    function : callable
        A loss, a projection, a decoder: anything that takes tensors, as arguments or in lists and
        dictionaries of them.

    Returns
    -------
    callable
        Of the same signature.
    """

    @wraps(function)
    def widened(*args: P.args, **kwargs: P.kwargs) -> R:
        kinds = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        # The meta device has no autocast; its stand-in follows that of the CPU.
        kind = next(iter(kinds - {"cpu", "meta"}), "cpu")
        wide_args, wide_kwargs = tree_map_only(Tensor, _widen, (args, kwargs))
        with torch.autocast(kind, enabled=False):
            return function(*wide_args, **wide_kwargs)

    return widened


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def compute_in(
    precision: str,
    network: Any,
    methods: Sequence[str] = ("forward",),
    *,
    store: bool = True,
) -> Any:
    """Let a frozen network compute in ``precision``; what it takes and gives stays float32.

    In bfloat16 the weights of its linear layers and convolutions are kept in bfloat16, which
    autocast would make of them in every call; normalizations, embeddings and the sums of residual
    connections stay as under autocast.

    Parameters
    ----------
    precision : str
        From :func:`choose_precision`; with ``float32`` nothing changes.
    network : torch.nn.Module
        On whatever device it is called; changed in place.
    methods : sequence of str
        Those by which it is called.
    store : bool
        False leaves the weights in float32: for networks that compute some products in float32,
        as ours do, or that ask their weights in which type to compute everything else.

    Returns
    -------
    torch.nn.Module
        The same network.
    """
    if precision != BFLOAT16:
        return network
    if store:
        store_products_in_bfloat16(network)
    for name in methods:
        setattr(network, name, _under_autocast(network, getattr(network, name)))
    return network


def store_products_in_bfloat16(network: nn.Module) -> None:
    """Keep the weights of linear layers and convolutions in bfloat16, in place."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            layer.to(torch.bfloat16)


def _under_autocast(network: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        kind = next(network.parameters()).device.type
        # The meta device has no autocast; its stand-in follows that of the CPU.
        with torch.autocast("cpu" if kind == "meta" else kind, torch.bfloat16):
            result = method(*args, **kwargs)
        return tree_map_only(Tensor, _widen, result)

    return call


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU without waiting for the device: from pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
