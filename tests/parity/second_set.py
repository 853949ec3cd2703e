"""A second set of records of the same layout, with other seeds and sizes.

    python -m parity.second_set FOLDER        (in tests/)
    NEUROCLIPS_FIXTURES=FOLDER pytest -m oracle tests/test_parity_oracle.py ...

What was recorded from the original code is copied; the records below are replaced by ones of other
sizes, computed by loops and library calls of their own where these suffice (retrieval, N-way
accuracy), and by our modules where not (the Semantics Reconstructor): the second set shows that no
test depends on the first one's sizes and numbers, not that our modules are right.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from neuroclips_cli.models.backbone import RidgeRegression
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone
from parity.records import FIXTURES

CLIPS, WIDTH, PART = 420, 24, 70
IMAGES, CLASSES, WAYS = 23, 311, (3, 20)
SEED = 4711


def write(folder: Path) -> None:
    """Write the whole set into an empty folder."""
    shutil.copytree(FIXTURES, folder, dirs_exist_ok=True)
    rng = np.random.default_rng(SEED)
    np.savez(folder / "retrieval_reference.npz", **retrieval(rng))
    np.savez(folder / "nway_reference.npz", **nway(rng))
    for name, sequence in (("sr_backbone", 1), ("sr_backbone_seq3", 5)):
        semantics(folder / "models", name, sequence)


def retrieval(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Ranks by a loop over clips."""
    image = rng.standard_normal((CLIPS, WIDTH)).astype(np.float32)
    fmri = image + 2.5 * rng.standard_normal((CLIPS, WIDTH)).astype(np.float32)
    order = rng.permutation(CLIPS)
    parts = order.reshape(-1, PART)
    unit = [
        x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
        for x in (fmri, image)
    ]
    made: dict[str, np.ndarray] = {
        "fmri_emb": fmri,
        "image_emb": image,
        "permutation": order,
        "parts": parts,
    }
    for direction, (asked, searched) in (("fmri_to_image", unit), ("image_to_fmri", unit[::-1])):
        ranks = np.array([[_rank(asked, searched, i, part) for i in part] for part in parts])
        made[f"rank_{direction}"] = ranks
        made[f"top1_{direction}"] = (ranks == 0).mean(axis=1)
        every = [_rank(asked, searched, i, np.arange(CLIPS)) for i in range(CLIPS)]
        made[f"all{CLIPS}_top1_{direction}"] = np.mean(np.array(every) == 0)
    return made


def _rank(asked: np.ndarray, searched: np.ndarray, clip: int, among: np.ndarray) -> int:
    """How many others are nearer to a clip than its own partner."""
    near = [float(asked[clip] @ searched[other]) for other in among]
    own = float(asked[clip] @ searched[clip])
    return sum(value > own for value in near)


def nway(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """N-way accuracy by drawing distractors many times, and by counting all draws."""
    logits = 2 * rng.standard_normal((IMAGES, CLASSES))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    top3 = np.array([rng.choice(np.argsort(-row)[:40], 3, replace=False) for row in logits])
    made: dict[str, np.ndarray] = {
        "pred_probs": scores.astype(np.float32),
        "gt_top1": top3[:, 0],
        "gt_top3": top3,
        "n_way_values": np.array(WAYS),
    }
    for top, classes in (("top1", top3[:, :1]), ("top3", top3)):
        for ways in WAYS:
            drawn, exact = zip(
                *(_accuracy(made["pred_probs"][i], classes[i], ways, rng) for i in range(IMAGES)),
                strict=True,
            )
            made[f"{top}_n{ways}_mc_acc"] = np.array(drawn)
            made[f"{top}_n{ways}_exact"] = value = np.array(exact)
            made[f"{top}_n{ways}_exact_mc_sd"] = np.sqrt(value * (1 - value) / TRIALS)
    return made


TRIALS = 2000


def _accuracy(
    scores: np.ndarray, classes: np.ndarray, ways: int, rng: np.random.Generator
) -> tuple[float, float]:
    others = np.delete(scores, classes)
    best = scores[classes].max()
    above = int((others > best).sum())
    won = [not (rng.choice(others, ways - 1, replace=False) > best).any() for _ in range(TRIALS)]
    exact = 1.0
    for place in range(ways - 1):  # no draw of those above, one after the other
        exact *= (len(others) - above - place) / (len(others) - place)
    return float(np.mean(won)), max(exact, 0.0)


@torch.no_grad()
def semantics(folder: Path, name: str, sequence: int) -> None:
    """Ridge layer, backbone and projectors of other sizes."""
    torch.manual_seed(SEED + sequence)
    record = json.loads((folder / f"{name}.json").read_text("utf-8"))
    sizes = record["config"] | {
        "voxels": 37,
        "h": 40,
        "n_blocks": 3,
        "tokens": 5,
        "clip_dim": 24,
        "seq_len": sequence,
    }
    ridge = RidgeRegression(sizes["voxels"], sizes["h"])
    backbone = PublishedSemanticsBackbone(40, 3, 0.15, 5, 24, sequence).eval()
    matrix = torch.randn(24, 18) / 5
    state = {f"ridge.{k}": v for k, v in ridge.state_dict().items()}
    state |= {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    voxels = torch.randn(7, sequence, 37)
    rows = ridge(voxels)
    tokens, contrastive = backbone(rows)
    arrays = {
        "in.voxels": voxels,
        "out.ridge_out": rows,
        "out.trunk_out": super(PublishedSemanticsBackbone, backbone).forward(rows),
        "out.backbone_out": tokens,
        "out.clip_voxels": contrastive,
        "out.clip_voxels_flat_normed": torch.nn.functional.normalize(contrastive.flatten(1), dim=1),
        "out.clipproj_out": contrastive.mean(dim=1) @ matrix,
        "out.clipproj_out_of_backbone": tokens.mean(dim=1) @ matrix,
        "out.blurry_placeholder": torch.zeros(2, 1),
    }
    save_file({k: v.contiguous() for k, v in arrays.items()}, folder / f"{name}.io.safetensors")
    save_file({**state, "clipproj.proj": matrix}, folder / f"{name}.state.safetensors")
    (folder / f"{name}.json").write_text(json.dumps({**record, "config": sizes}))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
