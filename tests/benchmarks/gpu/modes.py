"""The precisions that a case is measured in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Mode:
    """How the networks compute.

    Attributes
    ----------
    name : str
        In the table.
    half : torch.dtype or None
        Of autocast; None: float32.
    tf32_products, tf32_filters : bool
        Whether products of matrices and convolutions may use TF32.
    stored : bool
        Whether linear layers and convolutions of frozen networks keep bfloat16 weights, as the
        package's own ``precision`` does it.
    compiled : bool
        Whether the blocks of the networks are compiled.
    peak : str
        The matrix rate that the case is compared with.
    """

    name: str
    half: torch.dtype | None = None
    tf32_products: bool = True
    tf32_filters: bool = True
    stored: bool = False
    compiled: bool = False
    peak: str = "bfloat16"


BFLOAT16 = Mode("bfloat16", torch.bfloat16)
TF32 = Mode("TF32", peak="TF32")
FLOAT32 = Mode("float32", tf32_products=False, tf32_filters=False, peak="float32")
STORED = Mode("bf16 weights", torch.bfloat16, stored=True)
COMPILED = Mode("bf16 compiled", torch.bfloat16, compiled=True)
RELEASED_HALF = Mode("released, float16", torch.float16, peak="float16")
RELEASED_FULL = Mode("released, float32", tf32_products=False, peak="float32")
"""Convolutions use TF32 in PyTorch unless told otherwise, and the released script is silent."""

PLAIN = (BFLOAT16, TF32, FLOAT32)
"""Of every case, in order of value."""


@contextmanager
def products(mode: Mode) -> Iterator[None]:
    """Let float32 products and convolutions use TF32 or not, and restore what was set."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = mode.tf32_products
    torch.backends.cudnn.allow_tf32 = mode.tf32_filters
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def autocast(mode: Mode, device: str) -> AbstractContextManager[object]:
    """Return the context that a forward pass runs in."""
    if mode.half is None or device == "meta":
        return nullcontext()
    # Convolutions in float16 take minutes on a CPU, where the benchmark is only tried.
    half = torch.bfloat16 if device == "cpu" else mode.half
    return torch.autocast(torch.device(device).type, dtype=half)
