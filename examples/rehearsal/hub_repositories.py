"""Repositories of the hub as profile ``paper`` names them, each with its own quirks.

Beside what is loaded lie pickles, other precisions and cards, which must not be fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import published_checkpoints as checkpoints
import random_backbones as tiny
from mindeye2 import save_last_pth

IMAGENET, KINETICS, KINETICS_FRAMES = 1000, 400, 16
"""Classes of the evaluators, and frames that VideoMAE looks at, as published."""
LAST_PTH = "train_logs/final_subj01_pretrained_40sess_24bs/last.pth"
NOT_FETCHED = ("README.md", "pytorch_model.bin", "model.fp16.safetensors")


def save_repositories(root: Path) -> None:
    """Write every repository but the data set into ``root/<models|datasets>/<owner>/<name>``."""
    models: dict[str, Callable[[Path], None]] = {
        "stabilityai/sd-vae-ft-mse": tiny.save_vae,
        "madebyollin/sdxl-vae-fp16-fix": _save_keyframe_vae,
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": tiny.save_clip,
        "timm/vit_large_patch14_clip_224.openai": tiny.save_clip,
        "Salesforce/blip2-opt-2.7b": _save_blip2,
        "microsoft/git-large-coco": tiny.save_git,
        "SG161222/Realistic_Vision_V6.0_B1_noVAE": _save_scene_repository,
        "guoyww/animatediff-motion-adapter-v1-5-3": _save_motion_adapter,
        "guoyww/animatediff-sparsectrl-rgb": _save_sparsectrl,
        "guoyww/animatediff": _save_animatediff,
        "google/vit-base-patch16-224": _save_image_classifier,
        "MCG-NJU/videomae-base-finetuned-kinetics": _save_video_classifier,
    }
    for name, save in models.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        save(folder)
        for file in NOT_FETCHED:
            (folder / file).write_bytes(b"must not be fetched")
    _save_mindeye2(root / "datasets" / "pscotti" / "mindeyev2")


def _save_keyframe_vae(folder: Path) -> None:
    checkpoints.vae(levels=2).half().save_pretrained(folder)


def _save_blip2(folder: Path) -> None:
    """Keep the weights in shards with an index, as the real repository does."""
    tiny.save_captioner(folder, max_shard_size="40KB")


def _save_scene_repository(folder: Path) -> None:
    """Keep one file of weights, and a tokenizer of the old kind without ``tokenizer.json``."""
    tokenizer = folder / "tokenizer"
    tiny.save_tokenizer(tokenizer)
    (tokenizer / "tokenizer.json").unlink(missing_ok=True)
    checkpoints.save_scene(folder / "Realistic_Vision_V6.0_NV_B1.safetensors", tokenizer)


def _save_motion_adapter(folder: Path) -> None:
    checkpoints.motion_adapter().half().save_pretrained(folder)


def _save_sparsectrl(folder: Path) -> None:
    checkpoints.sparsectrl().half().save_pretrained(folder)


def _save_animatediff(folder: Path) -> None:
    checkpoints.save_domain_adapter(folder / "v3_sd15_adapter.ckpt")
    checkpoints.save_motion(folder / "v3_sd15_mm.ckpt")
    checkpoints.save_sparsectrl(folder / "v3_sd15_sparsectrl_rgb.ckpt")


def _save_image_classifier(folder: Path) -> None:
    tiny.save_image_classifier(folder, IMAGENET)


def _save_video_classifier(folder: Path) -> None:
    tiny.save_video_classifier(folder, KINETICS, KINETICS_FRAMES)


def _save_mindeye2(folder: Path) -> None:
    folder.mkdir(parents=True)
    checkpoints.save_unclip(folder / "unclip6_epoch0_step110000.ckpt")
    checkpoints.save_git_tokens(folder / "bigG_to_L_epoch8.pth")
    checkpoints.save_image_vae(folder / "sd_image_var_autoenc.pth")
    checkpoints.save_convnext(folder / "convnext_xlarge_alpha0.75_fullckpt.pth")
    save_last_pth(folder / LAST_PTH)


def read_repositories(root: Path) -> dict[str, dict[str, bytes]]:
    """Return what the local hub serves: repository -> file -> content."""
    served: dict[str, dict[str, bytes]] = {}
    for folder in sorted(root.glob("*/*/*")):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        served[folder.relative_to(root).as_posix()] = content
    return served
