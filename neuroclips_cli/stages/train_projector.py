"""train-projector: Reftm's projector on images with captions (paper B.2, Table 3)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.backbones.clip import PROJECTOR_FILE, ClipBackbone, load_clip
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.backbones.references import resolve
from neuroclips_cli.data.coco_captions import CaptionedImages, read_captioned
from neuroclips_cli.io.atomic import text_digest
from neuroclips_cli.reporting.paper_tables import TABLE_3
from neuroclips_cli.runs.resumable import map_rows
from neuroclips_cli.runs.stage import Stage, workdir_folder
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _requests
from neuroclips_cli.training.projector import retrieval, train_projector
from neuroclips_cli.training.samples import derived_seed
from neuroclips_cli.training.target_cache import CLIPS_AT_ONCE, target_key

NAME = "train-projector"


def run(settings: Settings, folder: Path, *, overwrite: bool = False) -> Path:
    """Train the projector, and measure retrieval before and after on images held out.

    Parameters
    ----------
    settings : Settings
        ``[train_projector]`` and ``backbones.clip`` decide the result; it belongs to no subject.
    folder : Path
        Images and captions in COCO's layout.
    overwrite : bool
        Train again even if the result is there.

    Returns
    -------
    Path
        The stage folder, ``<workdir>/train-projector``.

    Raises
    ------
    UserError
        If the folder holds no captioned images, or CLIP has no projection to begin with.
    """
    images = read_captioned(folder)
    request = _requests.train_projector(settings, folder=folder)
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            _train(stage, settings, images)
        return stage.folder


def _train(stage: Stage, settings: Settings, images: CaptionedImages) -> None:

    options, seed = settings.train_projector, settings.run.seed
    device = choose_device(settings.run.device)
    precision = choose_precision(settings.run.precision, device)
    stage.fact("precision", precision)
    clip = load_clip(settings.backbones.clip, device, precision)
    clip = clip.in_space(settings.semantics.token_space)
    start = clip.token_projection()
    means, text, owned = _features(settings, images, clip, precision)
    rng = np.random.default_rng(derived_seed(seed, NAME, "held out"))
    order = rng.permutation(len(means))
    held = np.sort(order[: max(round(len(means) * options.validation_share), 2)])
    train = np.sort(np.setdiff1d(order, held))
    first = text[[owned[row].start for row in held]]

    def measured(weight: Any) -> dict[str, float]:
        found = retrieval(weight, means[held], first, options.retrieval_part, seed)
        return {name: round(value, 4) for name, value in found.items()}

    before = measured(start)
    steps = options.epochs * max(len(train) // min(options.batch_size, len(train)), 1)
    with console.progress("Projector", steps, unit="step") as advance:
        weight = train_projector(
            start,
            means[train],
            text,
            [owned[row] for row in train],
            options,
            seed=seed,
            device=device,
            advance=advance,
        )
    after = measured(weight)
    stage.write_safetensors(PROJECTOR_FILE, {"weight": weight})
    among = min(options.retrieval_part, len(held))
    counts = {"trained_on": len(train), "held_out": len(held), "among": among}
    stage.write_json("retrieval.json", {"before": before, "after": after, **counts})
    console.info(
        f"retrieval among {among} of {len(held)} held-out images, image to text "
        f"{before['image_to_text']:.1%} before and {after['image_to_text']:.1%} after, text to "
        f"image {before['text_to_image']:.1%} and {after['text_to_image']:.1%}"
    )
    untrained, trained = (line.mean for line in TABLE_3)
    console.info(
        "the paper's Table 3, on MSCOCO 2017: image to text "
        f"{untrained['image_to_text']:.1%} and {trained['image_to_text']:.1%}, text to image "
        f"{untrained['text_to_image']:.1%} and {trained['text_to_image']:.1%}"
    )


def _features(
    settings: Settings, images: CaptionedImages, clip: ClipBackbone, precision: str
) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """Token means of all images, embeddings of all captions, and whose captions are whose.

    Both are cached in ``<workdir>/targets``, so that an interrupted run continues.
    """
    folder = Path(resolve(settings.backbones.clip))
    known = folder if folder.is_dir() else None
    facts = [(path.name, path.stat().st_size) for path in images.paths]
    captions = [text for own in images.captions for text in own]
    ends = np.cumsum([len(own) for own in images.captions])
    owned = [slice(int(e) - len(own), int(e)) for e, own in zip(ends, images.captions, strict=True)]

    def place(name: str, content: Any) -> Path:
        key = target_key(text_digest(content), settings.backbones.clip, known, precision)
        return workdir_folder(settings) / "targets" / f"{name}-{key}.npy"

    def image_means(piece: slice) -> np.ndarray:
        rows = np.arange(len(facts))[piece]
        return clip.tokens(images.read(rows, clip.preprocess.size)).mean(axis=1)

    def embeddings(piece: slice) -> np.ndarray:
        return clip.text_embeddings(captions[piece])

    rows = partial(map_rows, batch_size=CLIPS_AT_ONCE, dtype="float16", shared=True)
    path = place("token-means", [*facts, clip.token_space])
    means = rows(path, lambda: image_means, len(facts), what="CLIP tokens", unit="image")
    path = place("caption-text", captions)
    text = rows(path, lambda: embeddings, len(captions), what="CLIP captions", unit="caption")
    return np.array(means, np.float32), np.array(text, np.float32), owned
