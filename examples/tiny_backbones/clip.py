"""The OpenCLIP image-text model, Reftm's projector, and the text encoder of the video model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from neuroclips_cli.simulation import synthetic_world

from . import tokenizer as words
from .clock import Clock
from .films import Pool, frame_sampler
from .loop import fit

WIDTH, EMBED, TEXT_LAYERS, HEADS = 128, 128, 3, 4
VISION = {"image_size": 64, "layers": 5, "width": WIDTH, "head_width": 32, "patch_size": 16}
MOTION_CAPTIONS = 0.25
COARSE = 4


def _configuration(vocabulary: int) -> dict:
    text = {
        "context_length": words.CONTEXT,
        "vocab_size": vocabulary,
        "width": WIDTH,
        "heads": HEADS,
        "layers": TEXT_LAYERS,
    }
    return {"embed_dim": EMBED, "vision_cfg": VISION, "text_cfg": text}


class ClipTraining(nn.Module):
    """The model, the projector of its tokens, and two heads that are thrown away afterwards.

    One head (linear, each token to its patch at 4 x 4 pixels) asks the tokens to keep what
    their patch looks like; the other (linear, from their mean) asks them to tell kind, color
    and setting, which the captions alone teach much more slowly on a small film world.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.clip = CLIP(**_configuration(vocabulary))
        self.clip.visual.output_tokens = True
        self.projector = nn.Parameter(torch.randn(WIDTH, EMBED) / WIDTH**0.5)
        self.patch_head = nn.Linear(WIDTH, COARSE * COARSE * 3)
        self.sizes = [
            len(synthetic_world.KINDS),
            len(synthetic_world.COLORS),
            len(synthetic_world.SETTINGS),
        ]
        self.class_head = nn.Linear(WIDTH, sum(self.sizes))

    def go_on_from(self, folder: Path) -> None:
        """Start from the weights that :func:`train` wrote."""
        weights = load_file(folder / "clip" / "open_clip_model.safetensors")
        self.clip.load_state_dict({name: value.float() for name, value in weights.items()})
        projector = load_file(folder / "projector" / "projector.safetensors")
        self.projector.data = projector["weight"].float()

    def loss(self, images: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        """Contrastive loss of pooled and of averaged tokens, plus the two heads' losses.

        ``labels`` holds kind, color and setting, int64 (batch, 3).
        """
        pooled, tokens = self.clip.visual(images)
        text = functional.normalize(self.clip.encode_text(ids), dim=-1)
        scale = self.clip.logit_scale.exp().clamp(max=100)
        same = (ids[:, None] == ids[None]).all(-1).float()
        target = same / same.sum(-1, keepdim=True)
        total = images.new_zeros(())
        for image in (pooled, tokens.mean(1) @ self.projector):
            logits = scale * functional.normalize(image, dim=-1) @ text.T
            total = total + functional.cross_entropy(logits, target)
            total = total + functional.cross_entropy(logits.T, target)
        patches = functional.adaptive_avg_pool2d(images, 4 * COARSE)
        patches = functional.unfold(patches, COARSE, stride=COARSE).transpose(1, 2)
        classes = self.class_head(tokens.mean(1)).split(self.sizes, dim=-1)
        named = sum(
            functional.cross_entropy(c, t) for c, t in zip(classes, labels.unbind(1), strict=True)
        )
        return total / 4 + named / 3 + functional.l1_loss(self.patch_head(tokens), patches)


def train(
    pool: Pool,
    folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 2,
    go_on: bool = False,
) -> None:
    """Train on frames with captions and write ``clip``, ``projector``, ``text_encoder``."""
    torch.manual_seed(seed)
    tokenizer = words.save(folder / "clip")
    words.save(folder / "tokenizer")
    training = ClipTraining(len(tokenizer))
    if go_on:
        training.go_on_from(folder)
    training.to(pool.device)
    labels = torch.from_numpy(pool.labels[:, [0, 1, 3]]).to(pool.device)
    rng = np.random.default_rng(seed)

    sample = frame_sampler(pool, batch)

    def loss_of() -> Tensor:
        images, index = sample()
        scenes = pool.scenes(index.cpu().numpy())
        texts = [synthetic_world.caption(s, rng.random() < MOTION_CAPTIONS) for s in scenes]
        ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        return training.loss(images, ids.to(pool.device), labels[index])

    fit(
        "clip",
        training,
        loss_of,
        clock,
        learning_rate=1e-3,
        weight_decay=0.05,
        state=state,
        graph=False,
    )
    training.cpu()
    _save_clip(training.clip, folder / "clip", len(tokenizer))
    (folder / "projector").mkdir(exist_ok=True)
    save_file(
        {"weight": training.projector.detach().half()},
        folder / "projector" / "projector.safetensors",
    )
    text_encoder(training.clip, len(tokenizer)).half().save_pretrained(folder / "text_encoder")


def _save_clip(model: CLIP, folder: Path, vocabulary: int) -> None:
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    configuration = _configuration(vocabulary)
    configuration["text_cfg"]["hf_tokenizer_name"] = "local"
    half = [0.5, 0.5, 0.5]
    preprocess = {
        "size": 64,
        "mean": half,
        "std": half,
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    whole = {"model_cfg": configuration, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(whole, indent=2))


def text_encoder(clip: CLIP, vocabulary: int) -> CLIPTextModel:
    """Convert the text tower to transformers' names, as Stable Diffusion's text encoder was."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=EMBED,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=words.CONTEXT,
        hidden_act="gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    model = CLIPTextModel(config)
    theirs = clip.state_dict()
    ours = {
        "embeddings.token_embedding.weight": theirs["token_embedding.weight"],
        "embeddings.position_embedding.weight": theirs["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        ours[f"final_layer_norm.{kind}"] = theirs[f"ln_final.{kind}"]
        for i in range(TEXT_LAYERS):
            block, layer = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
            for old, new in (
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("attn.out_proj", "self_attn.out_proj"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                ours[f"{layer}.{new}.{kind}"] = theirs[f"{block}.{old}.{kind}"]
            parts = theirs[f"{block}.attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                ours[f"{layer}.self_attn.{name}_proj.{kind}"] = part
    prefix = "text_model." if hasattr(model, "text_model") else ""
    model.load_state_dict({prefix + name: value for name, value in ours.items()}, strict=True)
    return model
