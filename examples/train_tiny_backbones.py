"""Train the embedded backbones of profile ``tiny`` from nothing, on the practice world.

    python examples/train_tiny_backbones.py --out neuroclips_cli/assets/tiny

The films are drawn from seeds of their own: no scene of a simulated data set, of the demo or
of the held-out films that the backbones are scored on is ever among them. Each part can be
trained by itself (``--only``), in the order below, because later parts read earlier ones.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tiny_backbones import (
    captioner,
    classifiers,
    clip,
    latents,
    perceptual,
    scores,
    unclip,
    vae,
    video,
)
from tiny_backbones.films import Pool, load_pool

STEPS = {
    "vae": 4000,
    "clip": 2200,
    "unclip": 12000,
    "captioner": 2400,
    "image": 600,
    "video": 1000,
    "text-to-video": 4000,
}
PERCEPTUAL_STEPS = 1200
TRAINING_CLIPS, LATENT_CLIPS, HELD_OUT_CLIPS = 6000, 4000, 512


def main() -> None:
    """Train what is asked for, then print and write the table of scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("neuroclips_cli/assets/tiny"))
    parser.add_argument("--cache", type=Path, default=Path("build/tiny-backbones"))
    parser.add_argument("--only", choices=[*STEPS, "scores"], nargs="*")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the training steps")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="start from the weights in --out"
    )
    options = parser.parse_args()
    wanted = options.only or [*STEPS, "scores"]
    pool = load_pool(options.cache, "train", TRAINING_CLIPS, seed=1)
    parts = _parts(pool, options.out, options.cache, options.scale, options.go_on)
    for name in STEPS:
        if name in wanted:
            began = time.time()
            parts[name]()
            print(f"{name}: {(time.time() - began) / 60:.1f} min", flush=True)
    if "scores" in wanted:
        held_out = load_pool(options.cache, "held-out", HELD_OUT_CLIPS, seed=2)
        table = scores.table(held_out, options.out)
        (options.cache / "SCORES.md").write_text(table)


def _parts(
    pool: Pool, out: Path, cache: Path, scale: float, go_on: bool
) -> dict[str, Callable[[], object]]:
    """Return what trains each part, by name."""
    steps = {name: max(1, round(count * scale)) for name, count in STEPS.items()}

    def clip_latents() -> np.ndarray:
        return latents.clip_latents(pool, out / "vae", cache, LATENT_CLIPS)

    def frame_tokens() -> np.ndarray:
        return latents.frame_tokens(pool, out / "clip", cache, LATENT_CLIPS)

    @functools.cache
    def perceptual_loss() -> perceptual.LatentPerceptualLoss:
        return perceptual.train(
            clip_latents(),
            frame_tokens(),
            pool.labels[:LATENT_CLIPS],
            max(1, round(PERCEPTUAL_STEPS * scale)),
        )

    def train_vae() -> None:
        start = AutoencoderKL.from_pretrained(out / "vae") if go_on else None
        vae.train(pool, steps["vae"], start=start).half().save_pretrained(out / "vae")

    def train_unclip() -> None:
        start = None
        if go_on:
            start = UNet2DConditionModel.from_pretrained(out / "unclip", torch_dtype=torch.float32)
        unclip.train(
            clip_latents(),
            frame_tokens(),
            perceptual_loss(),
            out / "unclip",
            steps["unclip"],
            start=start,
        )

    own = {"clip_folder": out / "clip", "go_on": go_on}
    return {
        "vae": train_vae,
        "clip": lambda: clip.train(pool, out, steps["clip"], go_on=go_on),
        "unclip": train_unclip,
        "captioner": lambda: captioner.train(
            pool, out / "captioner", steps=steps["captioner"], **own
        ),
        "image": lambda: classifiers.train_image(
            pool, out / "image_classifier", steps=steps["image"], **own
        ),
        "video": lambda: classifiers.train_video(
            pool, out / "video_classifier", steps=steps["video"], **own
        ),
        "text-to-video": lambda: video.train(
            clip_latents(), pool, perceptual_loss(), out, steps["text-to-video"], go_on=go_on
        ),
    }


if __name__ == "__main__":
    main()
