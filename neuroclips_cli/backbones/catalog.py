"""What every backbone consists of: its files, known sizes and licenses, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass

ADAPTER_FILE = "adapter.safetensors"
CONVERTER_FILE = "tokens.safetensors"
CONVERTER_LAYERS = ("linear1", "linear2")
"""Names of our own for what is published as a bare file, and the layers of the token map."""

DIFFUSERS = ("config.json", "scheduler_config.json", "diffusion_pytorch_model")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
TRANSFORMERS = ("config.json", "generation_config.json", "preprocessor_config.json", "model")
CLIP = ("open_clip_config.json", "open_clip_model", *TOKENIZER)
CAPTIONER = (*TRANSFORMERS, "processor_config.json", *TOKENIZER)

FILES: dict[str, tuple[str, ...]] = {
    "vae": DIFFUSERS,
    "keyframe_vae": DIFFUSERS,
    "clip": CLIP,
    "projector": ("projector",),
    "unclip": DIFFUSERS,
    "captioner": CAPTIONER,
    "git": CAPTIONER,
    "git_tokens": ("tokens",),
    "text_encoder": TRANSFORMERS,
    "tokenizer": TOKENIZER,
    "scene_unet": DIFFUSERS,
    "domain_adapter": ("adapter",),
    "distilled_lora": ("adapter",),
    "motion_adapter": DIFFUSERS,
    "sparsectrl": DIFFUSERS,
    "image_classifier": TRANSFORMERS,
    "video_classifier": TRANSFORMERS,
    "evaluation_clip": CLIP,
}
"""Backbone or evaluator of ``evaluate`` -> its small files, and the stem of its ``.safetensors``,
one file or shards."""

NEEDED = {name: "config.json" for name in FILES if FILES[name][0] == "config.json"} | {
    "clip": "open_clip_config.json",
    "evaluation_clip": "open_clip_config.json",
    "tokenizer": "tokenizer_config.json",
}
"""Backbone -> the small file without which it cannot be loaded."""


@dataclass(frozen=True)
class RepositoryInfo:
    """What is known of a repository without asking the hub.

    Attributes
    ----------
    size : float
        Bytes that are fetched; 0 where unknown.
    license : str
        SPDX name or as the model card says it; ``unknown`` where it is not known.
    source : str
        Where size and license are from.
    """

    size: float
    license: str
    source: str


REPOSITORIES: dict[str, RepositoryInfo] = {
    "stabilityai/sd-vae-ft-mse": RepositoryInfo(
        335e6, "mit", "83.7 M parameters in float32; model card"
    ),
    "madebyollin/sdxl-vae-fp16-fix": RepositoryInfo(
        335e6, "mit", "83.7 M parameters in float32; model card"
    ),
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": RepositoryInfo(
        10.2e9, "mit", "2.54 G parameters in float32; model card"
    ),
    "Salesforce/blip2-opt-2.7b": RepositoryInfo(
        15.5e9, "mit", "file list and card of the repository"
    ),
    "microsoft/git-large-coco": RepositoryInfo(
        1.58e9, "mit", "file list and card of the repository"
    ),
    "SG161222/Realistic_Vision_V6.0_B1_noVAE": RepositoryInfo(
        4.27e9, "creativeml-openrail-m", "file list and card of the repository"
    ),
    "guoyww/animatediff-motion-adapter-v1-5-3": RepositoryInfo(1.67e9, "unknown", "file list"),
    "guoyww/animatediff-sparsectrl-rgb": RepositoryInfo(1.99e9, "unknown", "file list"),
    "google/vit-base-patch16-224": RepositoryInfo(
        346e6, "apache-2.0", "86.6 M parameters in float32; model card"
    ),
    "timm/vit_large_patch14_clip_224.openai": RepositoryInfo(
        1.71e9, "mit", "428 M parameters in float32; model card"
    ),
    "timm/vit_base_patch32_clip_224.openai": RepositoryInfo(
        605e6, "mit", "151 M parameters in float32; model card"
    ),
    "MCG-NJU/videomae-base-finetuned-kinetics": RepositoryInfo(
        346e6, "cc-by-nc-4.0", "86.5 M parameters in float32; model card"
    ),
}
"""Repository -> size and license; a repository that is missing here is unknown."""


@dataclass(frozen=True)
class ReleasedSource:
    """The published file that a local folder is converted from.

    Attributes
    ----------
    repository, kind_of_repository, file
        On the Hugging Face Hub; ``kind_of_repository`` is ``model`` or ``dataset``.
    kind : str
        As ``models convert --kind`` calls it.
    levels_up : int
        How far above the backbone's folder the conversion writes: one file can hold several.
    """

    repository: str
    kind_of_repository: str
    file: str
    kind: str
    levels_up: int = 0


_SCENE = ReleasedSource(
    "SG161222/Realistic_Vision_V6.0_B1_noVAE",
    "model",
    "Realistic_Vision_V6.0_NV_B1.safetensors",
    "scene",
    levels_up=1,
)
_UNCLIP = ("pscotti/mindeyev2", "dataset", "unclip6_epoch0_step110000.ckpt", "unclip")
RELEASED_SOURCES: dict[str, ReleasedSource] = {
    "unclip": ReleasedSource(*_UNCLIP),
    "keyframe_vae": ReleasedSource(*_UNCLIP, levels_up=1),
    "projector": ReleasedSource(
        "gongzx/cc2017_dataset", "dataset", "coco_tokens_avg_proj.pth", "projector"
    ),
    "git_tokens": ReleasedSource(
        "pscotti/mindeyev2", "dataset", "bigG_to_L_epoch8.pth", "git-tokens"
    ),
    "domain_adapter": ReleasedSource(
        "guoyww/animatediff", "model", "v3_sd15_adapter.ckpt", "adapter"
    ),
    "distilled_lora": ReleasedSource(
        "wangfuyun/AnimateLCM", "model", "AnimateLCM_sd15_t2v_lora.safetensors", "lora"
    ),
    "motion_adapter": ReleasedSource("guoyww/animatediff", "model", "v3_sd15_mm.ckpt", "motion"),
    "sparsectrl": ReleasedSource(
        "guoyww/animatediff", "model", "v3_sd15_sparsectrl_rgb.ckpt", "sparsectrl"
    ),
    "vae": ReleasedSource("pscotti/mindeyev2", "dataset", "sd_image_var_autoenc.pth", "vae"),
    "scene_unet": _SCENE,
    "text_encoder": _SCENE,
}
"""Backbone -> where the authors' own file lies; used when its folder is missing."""


def wanted(name: str, files: list[str]) -> list[str]:
    """Choose, of the files of a repository's folder, those that a backbone is loaded from.

    Parameters
    ----------
    name : str
        A key of :data:`FILES`.
    files : list of str
        Names inside the folder, without subfolders.

    Returns
    -------
    list of str
        Small files and the safetensors: the single file, or else the shards and their index.
    """
    stems = [stem for stem in FILES[name] if "." not in stem]
    small = [file for file in files if file in FILES[name]]
    for stem in stems:
        single = f"{stem}.safetensors"
        if single in files:
            small.append(single)
            continue
        small += [
            file
            for file in files
            if file == f"{single}.index.json"
            or (file.startswith(f"{stem}-") and file.endswith(".safetensors"))
        ]
    return small
