"""Train the embedded backbones of profile ``tiny`` from nothing, on the practice world.

    python examples/train_tiny_backbones.py --out neuroclips_cli/assets/tiny

The films are drawn from seeds of their own: no scene of a simulated data set, of the demo or
of the held-out films that the backbones are scored on is ever among them. Each part can be
trained by itself (``--only``), in the order below, because later parts read earlier ones.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tiny_backbones import captioner, classifiers, clip, latents, scores, unclip, vae, video
from tiny_backbones.films import Pool, load_pool

STEPS = {
    "vae": 3000,
    "clip": 1200,
    "unclip": 1500,
    "captioner": 900,
    "image": 1100,
    "video": 1200,
    "text-to-video": 1000,
}
TRAINING_CLIPS, LATENT_CLIPS, HELD_OUT_CLIPS = 6000, 4000, 512


def main() -> None:
    """Train what is asked for, then print and write the table of scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("neuroclips_cli/assets/tiny"))
    parser.add_argument("--cache", type=Path, default=Path("build/tiny-backbones"))
    parser.add_argument("--only", choices=[*STEPS, "scores"], nargs="*")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the training steps")
    options = parser.parse_args()
    wanted = options.only or [*STEPS, "scores"]
    pool = load_pool(options.cache, "train", TRAINING_CLIPS, seed=1)
    parts = _parts(pool, options.out, options.cache, options.scale)
    for name in STEPS:
        if name in wanted:
            began = time.time()
            parts[name]()
            print(f"{name}: {(time.time() - began) / 60:.1f} min", flush=True)
    if "scores" in wanted:
        held_out = load_pool(options.cache, "held-out", HELD_OUT_CLIPS, seed=2)
        table = scores.table(held_out, options.out)
        (options.out / "SCORES.md").write_text(table)


def _parts(pool: Pool, out: Path, cache: Path, scale: float) -> dict[str, Callable[[], object]]:
    """Return what trains each part, by name."""
    steps = {name: max(1, round(count * scale)) for name, count in STEPS.items()}

    def clip_latents() -> np.ndarray:
        return latents.clip_latents(pool, out / "vae", cache, LATENT_CLIPS)

    def frame_tokens() -> np.ndarray:
        return latents.frame_tokens(pool, out / "clip", cache, LATENT_CLIPS)

    return {
        "vae": lambda: vae.train(pool, steps["vae"]).half().save_pretrained(out / "vae"),
        "clip": lambda: clip.train(pool, out, steps["clip"]),
        "unclip": lambda: unclip.train(
            clip_latents(), frame_tokens(), out / "unclip", steps["unclip"]
        ),
        "captioner": lambda: captioner.train(
            pool, out / "captioner", out / "clip", steps["captioner"]
        ),
        "image": lambda: classifiers.train_image(
            pool, out / "image_classifier", out / "clip", steps["image"]
        ),
        "video": lambda: classifiers.train_video(
            pool, out / "video_classifier", out / "clip", steps["video"]
        ),
        "text-to-video": lambda: video.train(clip_latents(), pool, out, steps["text-to-video"]),
    }


if __name__ == "__main__":
    main()
