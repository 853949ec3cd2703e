"""BLIP-2: an English sentence for a frame, the gamma guidance (paper 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from neuroclips_cli.backbones.loading import load_network, load_pretrained
from neuroclips_cli.runtime.batches import batches


@dataclass(frozen=True)
class Captioner:
    """A BLIP-2 model and its processor.

    Attributes
    ----------
    model : transformers.Blip2ForConditionalGeneration
        Evaluation mode.
    processor : transformers.Blip2Processor
        Image processor and tokenizer.
    device : str
        A torch device.
    longest : int
        Most new text tokens per caption.
    """

    model: Any
    processor: Any
    device: str
    longest: int = 20

    @torch.inference_mode()
    def caption(
        self,
        frames: np.ndarray,
        batch_size: int = 32,
        advance: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Describe frames, greedily, so that the same frame always gets the same words.

        Parameters
        ----------
        frames : numpy.ndarray
            uint8 (N, H, W, 3).
        batch_size : int
            Frames at a time.
        advance : callable, optional
            Called with the number of frames done.

        Returns
        -------
        list of str
            One caption per frame, without surrounding blanks.
        """
        captions: list[str] = []
        for piece in batches(len(frames), batch_size, advance):
            images = [np.array(frame) for frame in frames[piece]]
            pixels = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
            ids = self.model.generate(
                pixel_values=pixels.to(self.device),
                max_new_tokens=self.longest,
                do_sample=False,
                num_beams=1,
            )
            texts = self.processor.batch_decode(ids, skip_special_tokens=True)
            captions.extend(" ".join(text.split()) for text in texts)
        return captions


def load_captioner(ref: str, device: str = "cpu", precision: str = "float32") -> Captioner:
    """Load BLIP-2 and its processor.

    Parameters
    ----------
    ref : str
        ``assets:<name>``, a folder or a hub id.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Returns
    -------
    Captioner

    Raises
    ------
    UserError
        If it cannot be found.
    """
    model = load_network(
        Blip2ForConditionalGeneration, ref, device, precision=precision, methods=("generate",)
    )
    return Captioner(model=model, processor=load_pretrained(Blip2Processor, ref), device=device)
