"""What early visual cortex might see: oriented energy, color and motion energy of a film.

The features are computed from pixels alone, by fixed filters (Gabor energy: Adelson & Bergen
1985; the encoding-model tradition of Nishimoto et al. 2011), never from a neural network, so that
decoding the simulated brain with the frozen backbones is a real task.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches

FEATURE_FPS = 10  # frames per second that the features look at
BIN_S = 0.5  # s averaged into one sample of neural drive
GRID = 16  # feature maps are GRID x GRID
WORKING_SIZE = 32  # pixels of the picture that the filters see
WAVELENGTHS = (4.0, 8.0)  # pixels of the working picture
ORIENTATIONS = 4
# Filters whose carrier runs along x and y, at both scales: they tell directions of motion.
_DIRECTED = [0, ORIENTATIONS // 2, ORIENTATIONS, ORIENTATIONS + ORIENTATIONS // 2]
_PADDING = 8
_CHUNK = 256

CHANNELS = (
    *(f"energy {180 * o // ORIENTATIONS} deg, {w:g} px" for w in WAVELENGTHS for o in range(4)),
    "luminance",
    "red-green",
    "blue-yellow",
    "colorfulness",
    "motion left",
    "motion right",
    "motion up",
    "motion down",
    "flicker",
)
FORM = slice(0, 8)
COLOR = slice(8, 12)
MOTION = slice(12, 17)


def shrink(frames: NDArray[np.uint8], size: int = WORKING_SIZE) -> NDArray[np.float32]:
    """Average pixels down to `size` x `size`.

    Parameters
    ----------
    frames
        uint8 (frames, height, width, 3); height and width are multiples of `size`.

    Returns
    -------
    float32 (frames, size, size, 3) in 0..1
    """
    count, height, width, _ = frames.shape
    blocks = frames.reshape(count, size, height // size, size, width // size, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32) / np.float32(255)


def feature_maps(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the feature maps of a film.

    Parameters
    ----------
    pictures
        float32 (frames, 32, 32, 3) in 0..1 at :data:`FEATURE_FPS`, as :func:`shrink` gives them;
        whole bins (a multiple of 5 frames).

    Returns
    -------
    float32 (bins, channels, GRID * GRID), channels as in :data:`CHANNELS`; bins last
    :data:`BIN_S`. Non-negative except for the color opponents.
    """
    per_bin = round(BIN_S * FEATURE_FPS)
    frames = len(pictures) - len(pictures) % per_bin
    bank = _gabor_bank()
    parts = []
    before: tuple[NDArray[np.complex64], NDArray[np.float32]] | None = None
    for chunk in batches(frames, _CHUNK):
        picture = pictures[chunk]
        light = picture @ np.array([0.299, 0.587, 0.114], np.float32)
        response = _filter(light, bank)
        before = before or (response[_DIRECTED, :1], light[:1])
        maps = np.concatenate(
            [
                np.moveaxis(_pool(_size(response)), 0, 1),
                _color(picture, light),
                _motion(response[_DIRECTED], light, *before),
            ],
            axis=1,
        )
        before = (response[_DIRECTED, -1:], light[-1:])
        parts.append(maps.reshape(len(picture), len(CHANNELS), GRID * GRID))
    maps = np.concatenate(parts)
    return maps.reshape(frames // per_bin, per_bin, *maps.shape[1:]).mean(axis=1)


def grid_positions() -> NDArray[np.float64]:
    """Centers of the maps' cells, float64 (GRID * GRID, 2) as (x, y) from -1 to 1, y downward."""
    axis = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _gabor_bank() -> NDArray[np.float32]:
    """Transfer functions of the quadrature filters, (filters, padded, padded), one-sided."""
    side = WORKING_SIZE + 2 * _PADDING
    frequency = np.fft.fftfreq(side)
    fy, fx = np.meshgrid(frequency, frequency, indexing="ij")
    bank = []
    for wavelength in WAVELENGTHS:
        for index in range(ORIENTATIONS):
            angle = np.pi * index / ORIENTATIONS
            u, v = np.cos(angle) / wavelength, np.sin(angle) / wavelength
            distance = (fx - u) ** 2 + (fy - v) ** 2
            transfer = np.exp(-distance / (2 * (0.4 / wavelength) ** 2))
            transfer[0, 0] = 0
            bank.append(transfer)
    return np.array(bank, np.float32)


def _filter(light: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Complex responses (filters, frames, 32, 32) of pictures (frames, 32, 32)."""
    from scipy import fft

    edge = ((0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING))
    centered = light - light.mean(axis=(1, 2), keepdims=True)
    spectrum = fft.fft2(np.pad(centered, edge, mode="reflect"), axes=(1, 2))
    inner = slice(_PADDING, _PADDING + WORKING_SIZE)
    return np.stack(
        [fft.ifft2(spectrum * transfer, axes=(1, 2))[:, inner, inner] for transfer in bank]
    ).astype(np.complex64)


def _size(response: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.sqrt(response.real**2 + response.imag**2)


def _pool(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average (..., 32, 32) down to (..., GRID, GRID), two pixels a side."""
    rows = maps[..., ::2, :] + maps[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) * np.float32(0.25)


def _color(picture: NDArray[np.float32], light: NDArray[np.float32]) -> NDArray[np.float32]:
    red, green, blue = (picture[..., i] for i in range(3))
    maps = [
        light,
        red - green,
        blue - (red + green) / 2,
        np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue),
    ]
    return np.stack([_pool(m) for m in maps], axis=1)


def _motion(
    response: NDArray[np.complex64],
    light: NDArray[np.float32],
    last_response: NDArray[np.complex64],
    last_light: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Direction-selective energy (left, right, up, down) and flicker, (frames, 5, GRID, GRID).

    A pattern that moves by d turns the phase of a quadrature filter of frequency f by
    -2 pi f d; the sine of that turn, weighted with the response's amplitude, is the energy.
    """
    before = np.concatenate([last_response, response[:, :-1]], axis=1)
    amplitude = np.sqrt(_size(response) * _size(before)) + np.float32(1e-4)
    turn = (response.real * before.imag - response.imag * before.real) / amplitude
    rightward, downward = _pool(turn[0] + turn[2]), _pool(turn[1] + turn[3])
    flicker = _pool(np.abs(light - np.concatenate([last_light, light[:-1]])))
    maps = [-rightward, rightward, -downward, downward, flicker]
    return np.stack([np.maximum(m, 0) for m in maps], axis=1)
