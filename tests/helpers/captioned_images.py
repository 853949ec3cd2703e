"""A small COCO: drawn images with captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from neuroclips_cli.simulation import synthetic_world

IMAGES = 240


def draw_captioned_images(folder: Path, images: int = IMAGES) -> Path:
    """Write scenes of the synthetic dataset as a small COCO."""
    (folder / "train2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    rng = np.random.default_rng(0)
    content: dict[str, list] = {"images": [], "annotations": []}
    for number in range(images):
        scene = synthetic_world.draw_scene(rng, 2.0)
        frame = (
            255 - synthetic_world.render_scene(scene, np.array([1.0]), 64)[0]
        )  # strange to the CLIP
        wide = np.pad(frame, ((0, 0), (8, 8), (0, 0)), mode="edge")
        Image.fromarray(wide).save(folder / "train2017" / f"{number:06d}.png")
        content["images"].append({"id": 900 + number, "file_name": f"{number:06d}.png"})
        for text in (
            synthetic_world.caption(scene),
            synthetic_world.caption(scene, with_motion=True),
        ):
            entry = {"id": len(content["annotations"]), "image_id": 900 + number}
            content["annotations"].append({**entry, "caption": f" {text}\n"})
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    return folder
