"""Images with captions in COCO's json layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli.data.pictures import Pictures
from neuroclips_cli.data.video_checks import LARGEST_PICTURE
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import read_json
from neuroclips_cli.io.folders import walk
from neuroclips_cli.io.placeholders import require_content


@dataclass(frozen=True)
class CaptionedImages:
    """Images and their captions.

    Attributes
    ----------
    paths : list of Path
        One per image, in order of their numbers.
    captions : list of list of str
        At least one per image.
    """

    paths: list[Path]
    captions: list[list[str]]

    def read(self, rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return uint8 (rows, height, width, 3): the short side resized, the center cut out."""
        return np.stack([_picture(self.paths[int(row)], size) for row in rows])


def read_captioned(folder: Path) -> CaptionedImages:
    """Read every annotation file below a folder.

    Parameters
    ----------
    folder : Path
        Holds COCO's ``annotations/captions_*.json`` (``images`` with ``id`` and ``file_name``,
        ``annotations`` with ``image_id`` and ``caption``) and the images, in any subfolder.

    Raises
    ------
    UserError
        If there is no such file, it is of another layout, or an image is missing, was not
        fetched, or bears the name of another one so that its captions could be either's.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give the folder of images with captions")
    tree = walk(folder)
    for path in tree.unreadable:
        raise UserError(f"the folder {path} cannot be read: give yourself access to it")
    files = [
        path
        for path in sorted((*tree.files, *tree.dead_links))
        if "caption" in path.stem.lower() and path.suffix.lower() == ".json"
    ]
    for path in files:
        require_content(path)
    if not files:
        raise UserError(
            f"{folder} holds no captions: COCO's layout has annotations/captions_*.json beside "
            "the folders of images"
        )
    pictures = Pictures.of(tree)
    found: dict[Path, list[str]] = {}
    for file in files:
        for name, captions in _annotations(file).items():
            found.setdefault(pictures.find(name, file), []).extend(captions)
    if len(found) < 4:
        raise UserError(f"{folder} holds {len(found)} captioned images, at least 4 are needed")
    return CaptionedImages(list(found), list(found.values()))


def _annotations(file: Path) -> dict[str, list[str]]:
    """Captions by file name, in order of the images' numbers."""
    content: Any = read_json(file)
    try:
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        captions: dict[str, list[str]] = {}
        for entry in sorted(content["annotations"], key=lambda e: (e["image_id"], e.get("id", 0))):
            text = " ".join(str(entry["caption"]).split())
            captions.setdefault(names[entry["image_id"]], []).append(text)
    except (KeyError, TypeError) as problem:
        raise UserError(
            f"{file} is not in COCO's caption layout ({problem}): it needs images with id and "
            "file_name, and annotations with image_id and caption"
        ) from problem
    return captions


def _picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_PICTURE:
                raise UserError(
                    f"{path} has {image.width} x {image.height} pixels: make it smaller"
                )
            fitted = ImageOps.fit(
                image.convert("RGB"), (size[1], size[0]), method=Image.Resampling.BICUBIC
            )
    except UserError:
        raise
    except Exception as problem:  # Pillow has a kind of error for every way a file can be broken
        raise UserError(f"cannot read the image {path}: replace or remove it") from problem
    return np.asarray(fitted)
