"""Memory on the device: what is refused, what is computed and measured, offload, batch sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from device_runs import begin_anew, copied, grey_levels

from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import read_array, run_folder
from neuroclips_cli.settings.load import load_settings, replace_settings

pytestmark = pytest.mark.gpu


@pytest.fixture
def free(device, monkeypatch) -> int:
    """Free bytes of the device; a CPU plays a GPU of 8 GiB."""
    if device == "cpu":
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (8 << 30, 8 << 30))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    return torch.cuda.mem_get_info()[0]


@pytest.mark.parametrize("stage", ["train-pr", "train-sr"])
def test_a_peak_that_does_not_fit_is_refused_before_anything_is_allocated(free, stage, device):
    from neuroclips_cli.memory_estimate.checks import require_training_memory

    settings = load_settings({"run.profile": "tiny"}, environ={})
    latents = (4, 8, 8) if stage == "train-pr" else None
    require_training_memory(settings, stage, "cuda", 1000, latents)
    part = "perception" if stage == "train-pr" else "semantics"
    huge = replace_settings(settings, {f"{part}.hidden": free // 20_000})
    before = torch.cuda.memory_allocated() if device != "cpu" else 0
    with pytest.raises(UserError, match="at its peak"):
        require_training_memory(huge, stage, "cuda", 1000, latents)
    assert (torch.cuda.memory_allocated() if device != "cpu" else 0) == before


def test_generation_that_does_not_fit_is_refused(free):
    from neuroclips_cli.memory_estimate.checks import require_generation_memory

    settings = load_settings({"run.profile": "tiny"}, environ={})
    require_generation_memory(settings, "cuda", 1000)
    huge = replace_settings(settings, {"reconstruct.batch_size": free // 1_000_000})
    with pytest.raises(UserError, match="offload"):
        require_generation_memory(huge, "cuda", 1000)


@pytest.mark.parametrize("stage", ["train-pr", "train-sr"])
def test_training_needs_no_more_than_was_computed(world, device, figures, tmp_path, stage):
    from neuroclips_cli.memory_estimate.training import train_perception, train_semantics
    from neuroclips_cli.stages import train_pr, train_sr

    settings = copied(world.cpu, tmp_path / "runs", device)
    voxels = read_array(run_folder(settings) / "preprocess" / "fmri_test.npy").shape[1]
    kind = {"device": device, "mixed": False}
    if stage == "train-pr":
        computed = train_perception(settings, voxels, (4, 8, 8), **kind).peak
    else:
        computed = max(need.peak for need in train_semantics(settings, voxels, **kind))
    measured = 0
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        measured = -torch.cuda.memory_allocated()
    {"train-pr": train_pr, "train-sr": train_sr}[stage].run(settings)
    if device != "cpu":
        measured += torch.cuda.max_memory_allocated()
    figures.note(f"{stage} computed, MiB", computed / 2**20)
    # held-out clips and cuBLAS' workspaces (32 MiB a handle) come on top of so small a training
    figures.within(f"{stage} measured, MiB", measured / 2**20, computed / 2**20 + 192)


@pytest.mark.parametrize("change", ["offload", "batches", "chosen"])
def test_offload_and_batch_sizes_leave_the_clips_as_they_are(
    world, decoded_here, device, figures, tmp_path, change
):
    from neuroclips_cli.stages import reconstruct

    begin_anew()
    given = {
        "offload": {"reconstruct__offload": True},
        "batches": {"reconstruct__batch_size": 3},
        "chosen": {"reconstruct__batch_size": 0},
    }[change]
    stages = ("train-pr", "train-sr")
    settings = copied(world.cpu, tmp_path / "runs", device, *stages, **given)
    made = reconstruct.run(settings, clips="0:4")
    for name in ("keyframes.npy", "clips.npy"):
        whole = read_array(run_folder(decoded_here) / "reconstruct" / name)[:4]
        found = read_array(made / name)
        # another batch size may choose another kernel, which adds up in another order
        figures.within(f"{change}, {name}, grey levels", grey_levels(found, whole), 0.25)


def test_networks_that_wait_lie_on_the_cpu(device):
    from neuroclips_cli.generation.video_generator import VideoGenerator

    settings = load_settings({"run.profile": "tiny", "reconstruct.offload": True}, environ={})
    settings = replace_settings(settings, {"reconstruct.steps": 1})
    video = VideoGenerator(settings, device)
    clips = video.clips([0], keyframes=np.full((1, 64, 64, 3), 90, np.uint8), captions=["a fish"])
    assert clips.shape == (1, 16, 64, 64, 3)
    models = video.models
    assert models.vae.device.type == torch.device(device).type
    assert {models.unet.device.type, models.sparsectrl.device.type} == {"cpu"}


def test_a_batch_that_runs_out_of_memory_is_halved(device, free):
    from neuroclips_cli.runtime.auto_batch import AutoBatcher

    each = int(free * 0.4)

    def compute(piece):
        count = piece.stop - piece.start
        if device == "cpu" and count > 2:
            raise torch.OutOfMemoryError
        if device != "cpu":
            torch.empty(count * each, dtype=torch.uint8, device=device)
        return count

    pieces = [count for _, count in AutoBatcher(8).map(0, 8, compute)]
    assert sum(pieces) == 8
    assert max(pieces) == 2
