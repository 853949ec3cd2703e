"""What a network wants its pixels to look like, done on tensors from uint8 arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop and standardize frames as a network was trained with.

    Attributes
    ----------
    size : tuple of int
        Height and width that the network takes.
    mean, std : tuple of float
        Per RGB channel, for pixels in 0..1.
    crop : bool
        True: the shorter side is resized to the shorter of ``size`` and the center is cut
        out; False: both sides are resized.
    interpolation : str
        ``bicubic`` or ``bilinear``.
    shortest : int
        Shorter side after resizing where ``crop`` is set; 0 means the shorter of ``size``.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: bool = True
    interpolation: str = "bicubic"
    shortest: int = 0

    def __call__(
        self, frames: np.ndarray, device: str, *, upper_half: bool = False
    ) -> torch.Tensor:
        """Prepare frames.

        Parameters
        ----------
        frames : numpy.ndarray
            uint8 (frames, height, width, 3).
        device : str
            A torch device.
        upper_half : bool
            Bring pixels from 0..1 to 0.5..1 before they are standardized, as MindEye2's
            embedder does with frames that it takes for -1..1.

        Returns
        -------
        torch.Tensor
            float32 (frames, 3, *size), standardized.
        """
        pixels = self._resize(unit_pixels(frames, device))
        if upper_half:
            pixels = (pixels + 1) / 2
        mean = torch.tensor(self.mean, device=device)[:, None, None]
        std = torch.tensor(self.std, device=device)[:, None, None]
        return (pixels - mean) / std

    def _resize(self, pixels: torch.Tensor) -> torch.Tensor:
        height, width = pixels.shape[-2:]
        if (height, width) == self.size and self.shortest in (0, min(self.size)):
            return pixels
        target = self.size
        if self.crop:
            scale = (self.shortest or min(self.size)) / min(height, width)
            target = (
                max(self.size[0], round(height * scale)),
                max(self.size[1], round(width * scale)),
            )
        pixels = functional.interpolate(
            pixels, target, mode=self.interpolation, align_corners=False, antialias=True
        ).clamp(0, 1)
        top, left = (target[0] - self.size[0]) // 2, (target[1] - self.size[1]) // 2
        return pixels[..., top : top + self.size[0], left : left + self.size[1]]


def from_image_processor(processor: Any) -> Preprocess:
    """Read the preprocessing from a transformers image processor.

    Parameters
    ----------
    processor : transformers image processor
        With ``size``, ``image_mean``, ``image_std``, and ``crop_size`` where it crops.

    Returns
    -------
    Preprocess
    """
    crop = bool(getattr(processor, "do_center_crop", False))
    shortest = _entry(processor.size, "shortest_edge") or 0
    final = processor.crop_size if crop else processor.size
    height = _entry(final, "height") or shortest
    width = _entry(final, "width") or shortest
    bicubic = int(getattr(processor, "resample", 2) or 2) == 3  # PIL's number for bicubic
    return Preprocess(
        size=(int(height), int(width)),
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        crop=crop or bool(shortest),
        interpolation="bicubic" if bicubic else "bilinear",
        shortest=int(shortest),
    )


def _entry(size: Any, key: str) -> int | None:
    return size.get(key) if isinstance(size, dict) else getattr(size, key, None)


def unit_pixels(frames: np.ndarray, device: str) -> torch.Tensor:
    """Turn uint8 (N, H, W, 3) frames into float32 (N, 3, H, W) in 0..1."""
    pixels = torch.from_numpy(np.array(frames)).to(device)
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """Turn pixels (N, 3, H, W) in 0..1 into uint8 (N, H, W, 3), rounding and clipping."""
    scaled = pixels.clamp(0, 1).mul(255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def resize_frames(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (N, H, W, 3) frames to ``size`` x ``size``; frames of that size are kept."""
    if frames.shape[1:3] == (size, size):
        return frames
    pixels = functional.interpolate(
        unit_pixels(frames, "cpu"), (size, size), mode="bicubic", antialias=True
    )
    return to_uint8(pixels)
