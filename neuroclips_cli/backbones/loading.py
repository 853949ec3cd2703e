"""Load a backbone from its folder, without running foreign code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.references import locate, require_here
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> str:
    """Return the torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises
    ------
    UserError
        If the named device is not there.
    """
    import torch

    mps = torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if (name.startswith("cuda") and not torch.cuda.is_available()) or (name == "mps" and not mps):
        raise UserError(f"device '{name}' is not available here: use --device auto or cpu.")
    return name


def load_pretrained(kind: Any, ref: str, **options: Any) -> Any:
    """Call ``kind.from_pretrained`` and turn a missing model into one sentence.

    Parameters
    ----------
    kind : type
        A diffusers or transformers class.
    ref : str
        See :func:`locate`.
    **options
        Passed on.

    Returns
    -------
    object
        What ``from_pretrained`` gives.

    Raises
    ------
    UserError
        If the files are neither local nor to be had from the hub.
    """
    source, subfolder = locate(ref)
    require_here(source, ref)
    if subfolder:
        options["subfolder"] = subfolder
    quiet_libraries()
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError) as problem:
        raise unavailable(ref, problem) from problem


def load_network(
    kind: Any,
    ref: str,
    device: str,
    *,
    precision: str = "float32",
    methods: Sequence[str] = ("forward",),
    **options: Any,
) -> torch.nn.Module:
    """Load a frozen diffusers or transformers network from safetensors, for inference.

    Parameters
    ----------
    kind : type
        The model class.
    ref : str
        See :func:`locate`.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``, see :func:`precision.compute_in`.
    methods : sequence of str
        By which the network is called.
    **options
        Passed on to ``from_pretrained``.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, without gradients; what it takes and gives is float32.
    """
    import torch

    from neuroclips_cli.runtime.precision import compute_in

    word = "torch_dtype" if kind.__module__.startswith("diffusers") else "dtype"
    network = load_pretrained(kind, ref, use_safetensors=True, **{word: torch.float32}, **options)
    return compute_in(precision, freeze(network, device), methods)


def freeze(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """Move a network to the device in float32, in evaluation mode, without gradients."""
    import torch

    return network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Store convolution weights channels-last, which is about 3 times faster on small images."""
    import torch

    return network.to(memory_format=torch.channels_last)


def quiet_libraries() -> None:
    """Silence the loading bars and advice of transformers and diffusers; errors stay."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def unavailable(ref: str, problem: Exception) -> UserError:
    """Return the one sentence for a backbone that cannot be loaded."""
    first = str(problem).strip().split("\n")[0]
    return UserError(
        f"cannot load the backbone '{ref}' ({type(problem).__name__}: {first[:160]}): "
        "fetch it with 'neuroclips models pull' while online, or name a local folder in "
        "[backbones] of neuroclips.toml."
    )
