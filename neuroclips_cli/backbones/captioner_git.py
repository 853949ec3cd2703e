"""GIT fed with decoded image tokens: the other captioner (paper Table 2, MindEye2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoTokenizer, GitForCausalLM
from transformers.modeling_outputs import BaseModelOutput

from neuroclips_cli.backbones.catalog import CONVERTER_FILE, CONVERTER_LAYERS
from neuroclips_cli.backbones.loading import freeze, load_network, load_pretrained
from neuroclips_cli.backbones.references import resolve
from neuroclips_cli.errors import UserError
from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.runtime.precision import compute_in


class TokenConverter(nn.Module):
    """ViT-bigG's image tokens to those of GIT's ViT-L: one map over tokens, one over width.

    Parameters
    ----------
    state : mapping
        ``linear1`` (out tokens, in tokens) and ``linear2`` (out width, in width) with biases,
        under the published names.
    """

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        shapes = [state[f"{layer}.weight"].shape for layer in CONVERTER_LAYERS]
        self.linear1 = nn.Linear(shapes[0][1], shapes[0][0])
        self.linear2 = nn.Linear(shapes[1][1], shapes[1][0])
        self.load_state_dict(dict(state))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, dim) to (batch, out tokens, out width)."""
        mixed: torch.Tensor = self.linear2(self.linear1(tokens.transpose(1, 2)).transpose(1, 2))
        return mixed

    @property
    def takes(self) -> tuple[int, int]:
        """Tokens and width of the input."""
        return self.linear1.in_features, self.linear2.in_features

    @property
    def gives(self) -> tuple[int, int]:
        """Tokens and width of the output."""
        return self.linear1.out_features, self.linear2.out_features


class _GivenStates(nn.Module):
    """Stands in GIT's place of an image encoder and hands on the states that it is given."""

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=pixel_values[:, 0])


@dataclass(frozen=True)
class GitCaptioner:
    """A GIT model that reads image tokens in place of an image.

    Attributes
    ----------
    model : transformers.GitForCausalLM
        Evaluation mode, its image encoder taken out.
    tokenizer : transformers tokenizer
        Of the captions.
    converter : TokenConverter
        From the tokens that the brain is decoded to.
    device : str
        A torch device.
    longest : int
        Most tokens of a caption, start and end included [MindEye2].
    """

    model: Any
    tokenizer: Any
    converter: TokenConverter
    device: str
    longest: int = 20

    @torch.inference_mode()
    def caption(
        self,
        tokens: np.ndarray,
        batch_size: int = 32,
        advance: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Describe decoded image tokens, greedily.

        Parameters
        ----------
        tokens : numpy.ndarray
            float (N, tokens, dim); 256 x 1664 for ViT-bigG/14.
        batch_size : int
            Samples at a time.
        advance : callable, optional
            Called with the number of samples done.

        Returns
        -------
        list of str
            One caption per sample.

        Raises
        ------
        UserError
            If the tokens have another shape than the converter takes.
        """
        needed = self.converter.takes
        if tokens.shape[1:] != needed:
            raise UserError(
                f"GIT's token map takes {needed[0]} x {needed[1]} image tokens and the decoder "
                f"gives {tokens.shape[1]} x {tokens.shape[2]}: name another git_tokens in "
                "[backbones], or caption with --captioner blip2"
            )
        captions: list[str] = []
        for piece in batches(len(tokens), batch_size, advance):
            given = torch.from_numpy(np.array(tokens[piece], dtype=np.float32)).to(self.device)
            states = self.converter(given)[:, None]  # where GIT expects an image, 4 axes
            ids = self.model.generate(
                pixel_values=states, max_length=self.longest, do_sample=False, num_beams=1
            )
            texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
            captions.extend(" ".join(text.split()) for text in texts)
        return captions


def load_git_captioner(
    ref: str, tokens_ref: str, device: str = "cpu", precision: str = "float32"
) -> GitCaptioner:
    """Load GIT and the map from the decoded tokens to its own.

    Parameters
    ----------
    ref : str
        ``assets:<name>``, a folder or a hub id of a GIT model.
    tokens_ref : str
        Folder with ``tokens.safetensors``, converted from ``bigG_to_L_epoch8.pth``.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Raises
    ------
    UserError
        If either is missing, or the map's output is not what this GIT takes.
    """
    model: Any = load_network(GitForCausalLM, ref, "cpu")
    converter = load_converter(tokens_ref)
    vision = model.config.vision_config
    takes = ((vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size)
    gives = converter.gives
    if takes != gives:
        raise UserError(
            f"the token map '{tokens_ref}' gives {gives[0]} x {gives[1]} tokens where '{ref}' "
            f"takes {takes[0]} x {takes[1]}: they do not belong together, correct [backbones]"
        )
    model.git.image_encoder = _GivenStates()
    return GitCaptioner(
        model=compute_in(precision, freeze(model, device), ("generate",)),
        tokenizer=load_pretrained(AutoTokenizer, ref),
        converter=compute_in(precision, freeze(converter, device)),
        device=device,
    )


def load_converter(ref: str) -> TokenConverter:
    """Load the token map; a missing file is a :class:`UserError`."""
    from safetensors.torch import load_file

    path = Path(resolve(ref)) / CONVERTER_FILE
    if not path.is_file():
        raise UserError(
            f"the token map {path} does not exist: make it with 'neuroclips models convert "
            "bigG_to_L_epoch8.pth' or correct git_tokens in [backbones] of neuroclips.toml."
        )
    return TokenConverter(load_file(path))
