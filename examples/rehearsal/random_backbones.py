"""Random checkpoints of every kind of backbone, as small as the classes allow, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

CAPTIONS = ("a red ball over the sea", "a blue star in the forest", "a smooth video, 8k uhd")
FRAME_SIZE = 32
TOKENS, TOKEN_DIM, EMBED_DIM = 4, 32, 16
CONTEXT, TEXT_DIM = 8, 16
CLASSES = 7
CHANNELS = (8, 16)
DOWN = ("CrossAttnDownBlock2D", "DownBlock2D")
UP = ("UpBlock2D", "CrossAttnUpBlock2D")


def save_all(folder: Path) -> dict[str, object]:
    """Write every backbone below ``folder``; return the values for ``BackboneSettings``."""
    torch.manual_seed(0)
    makers: dict[str, Callable[[Path], None]] = {
        "vae": save_vae,
        "clip": save_clip,
        "projector": save_projector,
        "unclip": save_unclip,
        "captioner": save_captioner,
        "text_encoder": save_text_encoder,
        "tokenizer": save_tokenizer,
        "scene_unet": save_scene_unet,
        "motion_adapter": save_motion_adapter,
        "sparsectrl": save_sparsectrl,
    }
    for name, save in makers.items():
        save(folder / name)
    names: dict[str, object] = {name: str(folder / name) for name in makers}
    names |= {"keyframe_vae": names["vae"], "domain_adapter": "", "git": "", "git_tokens": ""}
    return names | {"tokens": TOKENS, "token_dim": TOKEN_DIM, "embed_dim": EMBED_DIM}


def save_vae(folder: Path) -> None:
    """Write an AutoencoderKL with reduction 8, stored in float16."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=FRAME_SIZE,
    )
    vae.half().save_pretrained(folder)


def save_tokenizer(folder: Path) -> None:
    """Write a CLIP byte-pair tokenizer trained on the captions; the end token is the last id."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(CAPTIONS, trainer)
    model = json.loads(bpe.to_str())["model"]
    vocab = dict(model["vocab"])
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)


def vocabulary(folder: Path) -> int:
    """Return the number of tokens of the tokenizer in ``folder``."""
    from transformers import AutoTokenizer

    return len(AutoTokenizer.from_pretrained(folder))


def save_clip(folder: Path) -> None:
    """Write an OpenCLIP folder: configuration, weights and tokenizer."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    save_tokenizer(folder)
    model_cfg = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {
            "image_size": FRAME_SIZE,
            "layers": 1,
            "width": TOKEN_DIM,
            "head_width": 16,
            "patch_size": FRAME_SIZE // 2,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary(folder),
            "hf_tokenizer_name": "local",
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    model = CLIP(**model_cfg)
    save_file(
        {name: value.half().contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {
        "model_cfg": model_cfg,
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def save_projector(folder: Path) -> None:
    """Write Reftm's projector."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.randn(TOKEN_DIM, EMBED_DIM)}, folder / "projector.safetensors")


def save_unclip(folder: Path) -> None:
    """Write an image denoiser that cross-attends to image tokens."""
    _image_unet(TOKEN_DIM).half().save_pretrained(folder)


def save_scene_unet(folder: Path) -> None:
    """Write an image denoiser that cross-attends to text states."""
    _image_unet(TEXT_DIM).half().save_pretrained(folder)


def _image_unet(condition: int) -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=FRAME_SIZE // 8,
        block_out_channels=CHANNELS,
        down_block_types=DOWN,
        up_block_types=UP,
        layers_per_block=1,
        cross_attention_dim=condition,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def save_motion_adapter(folder: Path) -> None:
    """Write motion modules whose output layers are not zero, so that motion matters."""
    from diffusers import MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=CHANNELS,
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=16,
        use_motion_mid_block=False,
    )
    randomize(adapter)
    adapter.half().save_pretrained(folder)


def save_sparsectrl(folder: Path) -> None:
    """Write a SparseCtrl network whose zero convolutions are not zero, so that it matters."""
    from diffusers import SparseControlNetModel

    network = SparseControlNetModel(
        in_channels=4,
        conditioning_channels=4,
        block_out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        layers_per_block=1,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=2,
        num_attention_heads=2,
        norm_num_groups=4,
        transformer_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_max_seq_length=16,
        use_simplified_condition_embedding=True,
        conditioning_embedding_out_channels=(4, 8),
    )
    randomize(network)
    network.half().save_pretrained(folder)


def randomize(network: torch.nn.Module) -> torch.nn.Module:
    """Fill the weights that are zero at the start of a training; return the same network."""
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def save_text_encoder(folder: Path) -> None:
    """Write a CLIP text model for the tokenizer of :func:`save_tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    save_tokenizer(folder)
    count = vocabulary(folder)
    config = CLIPTextConfig(
        vocab_size=count,
        hidden_size=TEXT_DIM,
        intermediate_size=16,
        projection_dim=TEXT_DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=count - 2,
        eos_token_id=count - 1,
        pad_token_id=count - 1,
    )
    CLIPTextModel(config).half().save_pretrained(folder)


def save_captioner(folder: Path, max_shard_size: str = "5GB") -> None:
    """Write a BLIP-2 with one layer of everything, and its processor."""
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

    save_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=FRAME_SIZE,
            patch_size=16,
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            vocab_size=8,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            encoder_hidden_size=16,
        ).to_dict(),
        text_config=OPTConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            word_embed_proj_dim=16,
            num_hidden_layers=1,
            ffn_dim=16,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        ).to_dict(),
        num_query_tokens=2,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config).half()
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    images = BlipImageProcessor(size={"height": FRAME_SIZE, "width": FRAME_SIZE})
    Blip2Processor(images, tokenizer, num_query_tokens=2).save_pretrained(folder)


def save_image_classifier(folder: Path, classes: int = CLASSES) -> None:
    """Write a ViT with a classification head, and its image processor."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        image_size=FRAME_SIZE,
        patch_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=classes,
    )
    ViTForImageClassification(config).half().save_pretrained(folder)
    ViTImageProcessor(size={"height": FRAME_SIZE, "width": FRAME_SIZE}).save_pretrained(folder)


def save_video_classifier(folder: Path, classes: int = CLASSES, frames: int = 6) -> None:
    """Write a VideoMAE with a classification head, and its image processor."""
    from transformers import (
        VideoMAEConfig,
        VideoMAEForVideoClassification,
        VideoMAEImageProcessor,
    )

    config = VideoMAEConfig(
        image_size=FRAME_SIZE,
        patch_size=16,
        num_frames=frames,
        tubelet_size=2,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=classes,
    )
    VideoMAEForVideoClassification(config).half().save_pretrained(folder)
    VideoMAEImageProcessor(
        size={"shortest_edge": FRAME_SIZE}, crop_size={"height": FRAME_SIZE, "width": FRAME_SIZE}
    ).save_pretrained(folder)


GIT_WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "ball", "star", "over"),
    *("the", "sea", "in", "forest"),
)
GIT_WIDTH = 16
GIT_STATES = (FRAME_SIZE // 16) ** 2 + 1


def save_git(folder: Path) -> None:
    """Write a GIT as the hub has it: weights, configuration, a BERT tokenizer."""
    from transformers import BertTokenizer, GitConfig, GitForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(GIT_WORDS))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    vision = {"hidden_size": GIT_WIDTH, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": FRAME_SIZE, "patch_size": 16}
    config = GitConfig(
        vision_config=vision,
        vocab_size=len(GIT_WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        initializer_range=0.5,
    )
    GitForCausalLM(config).save_pretrained(folder)
