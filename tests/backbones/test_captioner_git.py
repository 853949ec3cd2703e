"""GIT on decoded tokens: a small random model of the published format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_backbones as tiny
import torch
from safetensors.torch import save_file

from neuroclips_cli.backbones.captioner_git import load_git_captioner
from neuroclips_cli.backbones.captioners import load_captioner_fn, require_captioner
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import load_settings

SIZE, WIDTH, STATES = tiny.FRAME_SIZE, tiny.GIT_WIDTH, tiny.GIT_STATES
TOKENS, DIM = 4, 12


@pytest.fixture(scope="module")
def git(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    torch.manual_seed(2)
    tiny.save_git(folder)
    return folder


def save_map(folder: Path, first: torch.nn.Linear, second: torch.nn.Linear) -> str:
    folder.mkdir()
    state = {f"linear1.{k}": v for k, v in first.state_dict().items()}
    state |= {f"linear2.{k}": v for k, v in second.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "tokens.safetensors")
    return str(folder)


@pytest.fixture
def token_map(tmp_path) -> str:
    torch.manual_seed(0)
    return save_map(tmp_path / "map", torch.nn.Linear(TOKENS, STATES), torch.nn.Linear(DIM, WIDTH))


@torch.inference_mode()
def test_tokens_take_the_place_of_the_image_encoders_states(git, tmp_path):
    from transformers import GitForCausalLM

    model = GitForCausalLM.from_pretrained(git).eval()
    image = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    states = model.git.image_encoder(image).last_hidden_state
    expected = model.generate(pixel_values=image, max_length=20, do_sample=False)

    same = torch.nn.Linear(STATES, STATES), torch.nn.Linear(WIDTH, WIDTH)
    for layer in same:
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    captioner = load_git_captioner(str(git), save_map(tmp_path / "same", *same))
    said = captioner.caption(states.numpy(), batch_size=2)
    texts = captioner.tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert said == [" ".join(text.split()) for text in texts]
    assert any(said) and len(set(said)) > 1


def test_captions_come_from_tokens_through_the_settings(git, token_map):
    flags = {"reconstruct.captioner": "git", "backbones.git": str(git)}
    settings = load_settings({**flags, "backbones.git_tokens": token_map}, environ={})
    require_captioner(settings)
    describe = load_captioner_fn(settings, "cpu")
    tokens = np.random.default_rng(0).normal(size=(3, TOKENS, DIM)).astype(np.float16)
    frames = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    captions = describe(frames, lambda: tokens)
    assert len(captions) == 3 and captions == describe(frames, lambda: tokens)
    with pytest.raises(UserError, match="4 x 12 image tokens and the decoder gives 5 x 12"):
        describe(frames, lambda: np.zeros((1, 5, 12), np.float16))


def test_missing_and_ill_matched_models_are_one_sentence(git, tmp_path, token_map):
    settings = load_settings({"reconstruct.captioner": "git"}, environ={})
    with pytest.raises(UserError, match=r"no value in \[backbones\]"):
        require_captioner(settings)
    with pytest.raises(UserError, match="models convert"):
        load_git_captioner(str(git), str(tmp_path))
    small = save_map(tmp_path / "small", torch.nn.Linear(TOKENS, 3), torch.nn.Linear(DIM, WIDTH))
    with pytest.raises(UserError, match=f"gives 3 x 16 tokens where .* takes {STATES} x 16"):
        load_git_captioner(str(git), small)
