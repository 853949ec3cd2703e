"""The BLIP-2-shaped captioner."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    CLIPTokenizer,
    OPTConfig,
)

from neuroclips_cli.simulation import synthetic_world

from . import tokenizer as words
from .clip import VISION
from .clock import Clock
from .films import Pool, frame_sampler
from .loop import fit
from .tower import BLIP2, start_from_clip, zero_patch_bias

QUERIES = 4
HALF = [0.5, 0.5, 0.5]


def build(tokenizer: CLIPTokenizer) -> Blip2ForConditionalGeneration:
    """Return an untrained captioner for a tokenizer with an ``<image>`` token."""
    end = tokenizer.eos_token_id
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=VISION["width"],
            intermediate_size=4 * VISION["width"],
            num_hidden_layers=VISION["layers"],
            num_attention_heads=VISION["width"] // VISION["head_width"],
            image_size=VISION["image_size"],
            patch_size=VISION["patch_size"],
            attention_dropout=0.0,
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            vocab_size=8,
            hidden_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=288,
            encoder_hidden_size=VISION["width"],
            cross_attention_frequency=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ).to_dict(),
        text_config=OPTConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            word_embed_proj_dim=96,
            num_hidden_layers=2,
            ffn_dim=288,
            num_attention_heads=4,
            max_position_embeddings=40,
            dropout=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
        ).to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return Blip2ForConditionalGeneration(config)


def train(
    pool: Pool,
    folder: Path,
    clip_folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 5,
    go_on: bool = False,
) -> None:
    """Train all parts together on frames with captions and write model and processor."""
    torch.manual_seed(seed)
    words.save(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    model = build(tokenizer)
    if go_on:
        model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    else:
        start_from_clip(model.vision_model, BLIP2, clip_folder)
        zero_patch_bias(model.vision_model)
    model.to(pool.device)
    queries = torch.full((1, QUERIES), model.config.image_token_index, device=pool.device)
    sample = frame_sampler(pool, batch)

    def loss_of() -> Tensor:
        images, index = sample()
        texts = [synthetic_world.caption(scene) for scene in pool.scenes(index.cpu().numpy())]
        encoded = tokenizer(texts, padding=True, return_tensors="pt").to(pool.device)
        images_first = queries.expand(len(texts), -1)
        ids = torch.cat([images_first, encoded.input_ids], dim=1)
        mask = torch.cat([torch.ones_like(images_first), encoded.attention_mask], dim=1)
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, : QUERIES + 1] = -100
        return model(pixel_values=images, input_ids=ids, attention_mask=mask, labels=labels).loss

    fit("captioner", model, loss_of, clock, learning_rate=1e-3, state=state, graph=False)
    model.half().save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 64, "width": 64}, image_mean=HALF, image_std=HALF)
    Blip2Processor(images, tokenizer, num_query_tokens=QUERIES).save_pretrained(folder)
