"""Our metrics against figures recorded from the public code (see ../shared/fixtures/README.md)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from neuroclips_cli.data.clips import read_clip
from neuroclips_cli.data.resample import frame_indices
from neuroclips_cli.metrics import flow, nway, pixel, retrieval

FIXTURES = Path(
    os.environ.get("NEUROCLIPS_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")
)
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        not (FIXTURES / "video_metrics_reference.json").is_file(),
        reason=f"no reference data in {FIXTURES}",
    ),
]


def recorded(kind: str) -> dict:
    """What video_metrics_reference.json holds of one kind; no clips where it is absent."""
    path = FIXTURES / "video_metrics_reference.json"
    return json.loads(path.read_text())[kind] if path.is_file() else {"clips": []}


def reference(kind: str) -> list[dict]:
    """Clips of one kind."""
    return recorded(kind)["clips"]


def panel(clips: np.ndarray, place: dict) -> np.ndarray:
    """Cut one panel out of frames."""
    (top, bottom), (left, right) = place["rows"], place["cols"]
    return clips[:, top:bottom, left:right]


def ways_recorded() -> list[int]:
    """N of the recorded N-way accuracies."""
    path = FIXTURES / "nway_reference.npz"
    if not path.is_file():
        return []
    with np.load(path) as data:
        return [int(n) for n in data["n_way_values"]]


@pytest.mark.parametrize("clip", reference("neuroclips"), ids=lambda clip: str(clip["id"]))
def test_ssim_and_psnr_agree_on_published_neuroclips_pairs(clip):
    made, fps = read_clip(FIXTURES / clip["recon_file"], clip_s=2.0)
    true, true_fps = read_clip(FIXTURES / clip["gt_file"], clip_s=2.0)
    assert frame_indices(len(true), true_fps, 3).tolist() == list(range(len(true)))
    indices = frame_indices(len(made), fps, 3)
    assert indices.tolist() == recorded("neuroclips")["frame_index_mapping_used"]
    compare(made[indices], true, clip)


@pytest.mark.parametrize("clip", reference("mindvideo"), ids=lambda clip: str(clip["id"]))
def test_ssim_and_psnr_agree_on_published_mindvideo_panels(clip):
    both, _ = read_clip(FIXTURES / clip["file"], clip_s=2.0)
    places = recorded("mindvideo")
    compare(panel(both, places["pred_panel"]), panel(both, places["gt_panel"]), clip)


def compare(made: np.ndarray, true: np.ndarray, clip: dict) -> None:
    """Compare per frame and per clip."""
    ssim = pixel.ssim(made[None], true[None])[0]
    psnr = pixel.psnr(made[None], true[None])[0]
    expected = clip["per_frame"]
    np.testing.assert_allclose(ssim, expected["ssim_mindvideo_rgb_uniform7"], atol=1e-6)
    np.testing.assert_allclose(psnr, expected["psnr"], atol=1e-9)
    assert ssim.mean() == pytest.approx(clip["clip"]["ssim_mindvideo_rgb_uniform7"], abs=1e-6)
    assert psnr.mean() == pytest.approx(clip["clip"]["psnr"], abs=1e-9)
    others = {
        "ssim_neurons_as_coded": pixel.ssim_variant(made[None], true[None], "grey-columns"),
        "ssim_rgb_gaussian": pixel.ssim_variant(made[None], true[None], "rgb-gaussian"),
        "ssim_gray2d_gaussian": pixel.ssim_variant(made[None], true[None], "grey-gaussian"),
        "hue_pcc_mindanimator": pixel.hue_similarity(made[None], true[None]),
        "pixel_pearson_rgb": pixel.pearson(made[None], true[None]),
    }
    for name, values in others.items():
        np.testing.assert_allclose(values[0], expected[name], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", ["neuroclips", "mindvideo"])
def test_end_point_error_agrees_at_both_sizes(kind):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    for clip in reference(kind)[:1]:
        if kind == "neuroclips":
            made, fps = read_clip(FIXTURES / clip["recon_file"], clip_s=2.0)
            true, _ = read_clip(FIXTURES / clip["gt_file"], clip_s=2.0)
            made = made[frame_indices(len(made), fps, 3)]
        else:
            both, _ = read_clip(FIXTURES / clip["file"], clip_s=2.0)
            made, true = both[:, 2:258, 260:516], both[:, 2:258, 2:258]
        large = [np.stack([cv2.resize(f, (512, 512)) for f in side]) for side in (made, true)]
        for name, pair in (("native", (made, true)), ("512", large)):
            found = flow.end_point_error(*(side[None] for side in pair))[0]
            assert found == pytest.approx(clip["clip"][f"epe_mindanimator_{name}"], abs=1e-4)


@pytest.mark.parametrize("ways", ways_recorded())
@pytest.mark.parametrize("top", ["top1", "top3"])
def test_nway_accuracy_equals_the_recorded_closed_form(top, ways):
    with np.load(FIXTURES / "nway_reference.npz") as data:
        scores, classes = data["pred_probs"], data[f"gt_{top}"]
        exact = data[f"{top}_n{ways}_exact"]
        sampled, error = data[f"{top}_n{ways}_mc_acc"], data[f"{top}_n{ways}_exact_mc_sd"]
        trials = int(data["num_trials"])
    values = nway.nway_accuracy(scores, classes, ways)
    np.testing.assert_allclose(values, exact, atol=1e-9)
    assert np.all(np.abs(values - sampled) <= 4 * error + 1e-12)
    ours, own_error = nway.sampled_accuracy(
        scores, classes, ways, trials, np.random.default_rng(ways)
    )
    both = np.sqrt(error**2 + own_error**2)
    assert np.all(np.abs(ours - sampled) <= 4.5 * both + 1e-12)
    # the mean over rows is a far sharper test than any row
    for found in (sampled, ours):
        z = (found - values).sum() / np.sqrt((error**2).sum())
        assert abs(z) < 4


def test_retrieval_finds_the_same_winners_and_ranks():
    with np.load(FIXTURES / "retrieval_reference.npz") as data:
        kept = {name: data[name] for name in data.files}
    similarity = retrieval.cosine_matrix(kept["fmri_emb"], kept["image_emb"])
    parts = kept["parts"]
    both = retrieval.ranks(similarity, parts)
    for direction, rank in zip(("fmri_to_image", "image_to_fmri"), both, strict=True):
        np.testing.assert_array_equal(rank[parts], kept[f"rank_{direction}"])
        top1 = retrieval.hits(rank, 1)[parts].mean(axis=1)
        np.testing.assert_allclose(top1, kept[f"top1_{direction}"], atol=1e-12)
        top5 = (kept[f"rank_{direction}"] < 5).mean(axis=1)
        np.testing.assert_allclose(retrieval.hits(rank, 5)[parts].mean(axis=1), top5, atol=1e-12)
    count = len(similarity)
    everything = retrieval.ranks(similarity, np.arange(count)[None])
    for direction, rank in zip(("fmri_to_image", "image_to_fmri"), everything, strict=True):
        top1 = float(kept[f"all{count}_top1_{direction}"])
        assert retrieval.hits(rank, 1).mean() == pytest.approx(top1)
