"""Loads the denoiser of decoded image tokens."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from neuroclips_cli.backbones.references import resolve
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.safetensors import read_tensors
from neuroclips_cli.models.token_denoiser import TokenDenoiser

TOKEN_DENOISER_FILE = "token_denoiser.safetensors"


def load_token_denoiser(ref: str, tokens: int, device: str = "cpu") -> nn.Module:
    """Load the denoiser of decoded image tokens.

    Parameters
    ----------
    ref : str
        Folder (or ``assets:<name>``) with ``token_denoiser.safetensors``; empty for none.
    tokens : int
        Numbers in a picture's tokens, tokens x token_dim.
    device : str
        A torch device.

    Returns
    -------
    torch.nn.Module
        Frozen, float32; leaves tokens as they are where there is none.

    Raises
    ------
    UserError
        If the file is not there, or is of other tokens.
    """
    if not ref:
        return nn.Identity()
    path = Path(resolve(ref)) / TOKEN_DENOISER_FILE
    if not path.is_file():
        raise UserError(
            f"the denoiser of tokens {path} does not exist: correct token_denoiser in [backbones] "
            'of neuroclips.toml, or set it to "" to do without'
        )
    weights = {name: values.float() for name, values in read_tensors(path).items()}
    try:
        made = TokenDenoiser.from_weights(weights)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} holds no denoiser of tokens: set token_denoiser to a folder that does"
        ) from error
    if len(made.mean) != tokens:
        raise UserError(
            f"{path} is for pictures of {len(made.mean)} numbers in their tokens and backbones.clip"
            f" gives {tokens}: set backbones.token_denoiser to one trained on that CLIP model, or "
            'to "" to do without'
        )
    return made.requires_grad_(False).eval().to(device)
