"""``evaluate --pred --gt`` on published clips, against Pillow and scikit-image alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from neuroclips_cli.cli import main as cli
from neuroclips_cli.data.clips import read_clip

QUICK = ["--set", "evaluate.shuffles=0", "--set", "evaluate.bootstrap_samples=20"]


def gif(path: Path) -> np.ndarray:
    """Return uint8 (frames, h, w, 3)."""
    with Image.open(path) as image:
        frames = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)]
    return np.stack(frames)


def evaluated(*arguments: object) -> dict:
    """Evaluate in the present, empty folder."""
    assert cli.run(["evaluate", *map(str, arguments), *QUICK]) == 0
    return json.loads(Path("evaluation/metrics.json").read_text())


def mean_over(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """SSIM and PSNR as scikit-image has them, means over frames and then over pairs."""
    ssim = [
        np.mean(
            [
                structural_similarity(a, b, channel_axis=-1, data_range=255)
                for a, b in zip(*p, strict=True)
            ]
        )
        for p in pairs
    ]
    psnr = [
        np.mean([peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(*p, strict=True)])
        for p in pairs
    ]
    return float(np.mean(ssim)), float(np.mean(psnr))


def check(result: dict, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Compare with scikit-image, and make sure that no embedded network evaluated."""
    ssim, psnr = mean_over(pairs)
    assert result["metrics"]["ssim"]["mean"] == pytest.approx(ssim, abs=1e-4)
    assert result["metrics"]["psnr"]["mean"] == pytest.approx(psnr, abs=1e-4)
    assert result["protocol"]["size"] == 256
    assert not {"video_2way", "frame_50way", "clip_pcc", "clip_similarity"} & set(result["metrics"])
    assert "neuroclips models pull image_classifier video_classifier" in result["left_out"]
    assert "synthetic" not in json.dumps(result)
    assert "assets:" not in json.dumps(result)


@pytest.mark.parametrize("cut", [False, True])
def test_neuroclips_pairs(shared, tmp_path, capsys, cut):
    source = shared / "fixtures" / "neuroclips_pairs"
    names = [path.name for path in source.glob("[0-9]*.gif")]
    assert len(names) == 11
    pairs = []
    for side in ("pred", "gt"):
        (tmp_path / side).mkdir()
    for name in names:
        made, true = source / name, source / f"gt_{name}"
        (tmp_path / "pred" / name).write_bytes(made.read_bytes())
        (tmp_path / "gt" / name).write_bytes(true.read_bytes())
        rows = [0, 2, 5, 7, 9, 12]  # as the recorded figures of the public code
        pairs.append((gif(made)[rows], gif(true)))
    if cut:
        short = tmp_path / "pred" / "24.gif"
        with Image.open(short) as image:
            frames = [frame.copy() for frame in ImageSequence.Iterator(image)][:12]
        frames[0].save(short, save_all=True, append_images=frames[1:], duration=140)
        # five of the six frames of the ground truth are covered
        _, fps = read_clip(short, clip_s=2.0)
        rows = [int(np.abs(np.arange(12) / fps - time / 3).argmin()) for time in range(5)]
        place = names.index("24.gif")
        pairs[place] = (gif(short)[rows], pairs[place][1][:5])
    check(evaluated("--pred", "pred", "--gt", "gt"), pairs)
    said = " ".join("".join(capsys.readouterr()).split())
    assert ("1 of 11 pairs of unequal length" in said) == cut
    if cut:
        assert "24 (1.67 s against 2 s)" in said


def test_the_published_arrangement_in_one_folder(shared):
    source = shared / "fixtures" / "neuroclips_pairs"
    result = evaluated("--pred", source, "--gt", source)
    assert result["protocol"]["n"] == 11
    assert result["metrics"]["ssim"]["mean"] == pytest.approx(0.403048, abs=1e-4)


def test_mindvideo_panels(shared):
    source = shared / "fixtures" / "mindvideo_gifs"
    pairs = []
    for path in sorted(source.glob("*.gif")):
        frames = gif(path)
        pairs.append((frames[:, 2:258, 260:516], frames[:, 2:258, 2:258]))
    check(evaluated("--pred", source, "--panels", "gt|pred"), pairs)
