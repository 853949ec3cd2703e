"""From image tokens as scans tell them to tokens as pictures have them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from neuroclips_cli.runtime.precision import in_float32


class TokenDenoiser(nn.Module):
    """A denoising autoencoder of image tokens, between the prior and unCLIP.

    What a decoder expects of a picture it hardly knows lies between many pictures, and looks like
    none of them: near the mean along every component. Which kind and color are meant can still be
    read from it, but only from all components together, and unCLIP, which was trained on pictures'
    own tokens, does not. This network was trained on tokens of films with the errors of a decoder
    (Vincent et al. 2010); scans play no part in it.

    Parameters
    ----------
    tokens : int
        Numbers in a picture's tokens, tokens x token_dim.
    read, hidden, written : int
        Components that are read, width, components that are written.

    Notes
    -----
    ``x <- f((x - m) A^T) B + n`` with a network f of two hidden layers; m, A, n and B hold means
    and scaled principal axes of tokens.

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.models.token_denoiser import TokenDenoiser
    >>> tuple(TokenDenoiser(tokens=8, read=3, hidden=4, written=5)(torch.zeros(2, 4, 2)).shape)
    (2, 4, 2)
    """

    mean: Tensor
    axes: Tensor
    written_mean: Tensor
    written_axes: Tensor

    def __init__(self, tokens: int, read: int, hidden: int, written: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tokens))
        self.register_buffer("axes", torch.zeros(read, tokens))
        self.register_buffer("written_mean", torch.zeros(tokens))
        self.register_buffer("written_axes", torch.zeros(written, tokens))
        self.network = nn.Sequential(
            nn.Linear(read, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, written),
        )

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> TokenDenoiser:
        """Build the network whose weights these are; their shapes tell its sizes.

        Raises
        ------
        KeyError, RuntimeError
            If they are another network's.
        """
        read, tokens = weights["axes"].shape
        hidden, written = len(weights["network.0.bias"]), len(weights["written_axes"])
        made = cls(tokens, read, hidden, written)
        made.load_state_dict(dict(weights))
        return made

    @in_float32
    def forward(self, tokens: Tensor) -> Tensor:
        """Denoise tokens.

        Parameters
        ----------
        tokens : Tensor
            ``(batch, tokens, token_dim)``.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        components = (tokens.flatten(1) - self.mean) @ self.axes.T
        written = self.network(components) @ self.written_axes + self.written_mean
        return written.view_as(tokens)
