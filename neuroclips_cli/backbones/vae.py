"""The latent space of Stable Diffusion: an ``AutoencoderKL`` between pixels and latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL

from neuroclips_cli.backbones.loading import channels_last, load_network
from neuroclips_cli.backbones.pixels import to_uint8, unit_pixels
from neuroclips_cli.runtime.auto_batch import AutoBatcher

Result = TypeVar("Result")


def load_vae(ref: str, device: str = "cpu") -> AutoencoderKL:
    """Load a variational autoencoder.

    Parameters
    ----------
    ref : str
        ``assets:<name>``, a folder or a hub id (see ``references.resolve``).
    device : str
        A torch device.

    Returns
    -------
    diffusers.AutoencoderKL
        float32, evaluation mode.

    Raises
    ------
    UserError
        If it cannot be found.
    """
    return channels_last(load_network(AutoencoderKL, ref, device))


@torch.inference_mode()
def encode_frames(
    vae: AutoencoderKL,
    frames: np.ndarray,
    batch_size: int = 64,
    advance: Callable[[int], None] | None = None,
    *,
    signed: bool = True,
) -> np.ndarray:
    """Encode frames to scaled latents (the mean of the posterior, so that targets are fixed).

    Parameters
    ----------
    vae : diffusers.AutoencoderKL
        From :func:`load_vae`.
    frames : numpy.ndarray
        uint8 (N, H, W, 3), H and W multiples of the VAE's reduction (8).
    batch_size : int
        Frames at a time.
    advance : callable, optional
        Called with the number of frames done.
    signed : bool
        False: the VAE gets pixels in 0..1 instead of -1..1, whose latents stand for the images
        that unCLIP makes of ``published`` tokens.

    Returns
    -------
    numpy.ndarray
        float32 (N, channels, H / 8, W / 8), multiplied by ``scaling_factor``.
    """
    device = str(vae.device)

    def encode(piece: slice) -> np.ndarray:
        pixels = unit_pixels(frames[piece], device)
        pixels = pixels * 2 - 1 if signed else pixels
        return encode_pixels(vae, pixels).cpu().numpy()

    return np.concatenate(_pieces(vae, len(frames), batch_size, encode, advance))


@torch.inference_mode()
def encode_pixels(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Encode the VAE's own input (N, 3, H, W), -1..1, to scaled latents (N, C, h, w)."""
    mean = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mean
    return (mean.float() * vae.config.scaling_factor).contiguous()


@torch.inference_mode()
def decode_pixels(vae: AutoencoderKL, latents: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
    """Decode scaled latents (N, C, h, w) to the VAE's own output (N, 3, H, W), about -1..1."""

    def decode(piece: slice) -> torch.Tensor:
        chunk = (latents[piece] / vae.config.scaling_factor).to(vae.device)
        return vae.decode(chunk.contiguous(memory_format=torch.channels_last)).sample

    return torch.cat(_pieces(vae, len(latents), batch_size, decode))


def _pieces(
    vae: AutoencoderKL,
    count: int,
    batch_size: int,
    compute: Callable[[slice], Result],
    advance: Callable[[int], None] | None = None,
) -> list[Result]:
    """Compute in pieces that memory allows; where one frame is too large, in overlapping tiles."""
    parts: list[Result] = []
    done, batch = 0, AutoBatcher(batch_size)
    while done < count:
        try:
            for piece, part in batch.map(done, count, compute):
                parts.append(part)
                done = piece.stop
                if advance is not None:
                    advance(piece.stop - piece.start)
        except torch.OutOfMemoryError:
            if vae.use_tiling:
                raise
            vae.enable_tiling()
    return parts


def decode_latents(
    vae: AutoencoderKL, latents: np.ndarray | torch.Tensor, batch_size: int = 64
) -> np.ndarray:
    """Decode scaled latents to frames.

    Parameters
    ----------
    vae : diffusers.AutoencoderKL
        From :func:`load_vae`.
    latents : numpy.ndarray or torch.Tensor
        float32 (N, channels, h, w), multiplied by ``scaling_factor`` as
        :func:`encode_frames` gives them.
    batch_size : int
        Frames at a time.

    Returns
    -------
    numpy.ndarray
        uint8 (N, 8 h, 8 w, 3).
    """
    tensor = torch.as_tensor(np.array(latents) if isinstance(latents, np.ndarray) else latents)
    return to_uint8(decode_pixels(vae, tensor.float(), batch_size) / 2 + 0.5)
