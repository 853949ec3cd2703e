"""The training script of the embedded backbones: its loop, its clock, the sampler's path."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from safetensors.torch import load_file
from tiny_backbones import classifiers, covered, loop, path
from tiny_backbones import unclip as unclip_training
from tiny_backbones import vae as vae_training
from tiny_backbones import video as video_training
from tiny_backbones.clock import Budget, Clock
from tiny_backbones.decoded import DecodedBy, DecodedLike
from tiny_backbones.films import Pool
from torch import nn
from transformers import VideoMAEForVideoClassification, ViTForImageClassification

import neuroclips_cli
from neuroclips_cli.generation.alpha import start_latents
from neuroclips_cli.generation.keyframe import keyframe_timesteps

CPU = torch.device("cpu")
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9")


def _walk(steps, state: torch.Tensor, velocities: torch.Tensor) -> torch.Tensor:
    for place, velocity in zip(range(len(steps)), velocities, strict=True):
        at = torch.full((len(state),), place)
        clean = path.clean_from_velocity(state, velocity, steps.kept[at])
        state = steps.next_state(state, at, clean)
    return state


def test_video_path_is_what_the_sampler_does():
    scheduler = video_training.scheduler()
    steps = video_training.sampling_path(scheduler, CPU)
    noise, blurry = torch.randn(2, 3, 4, 2, 2, 2)
    state, times = start_latents(blurry, noise, scheduler, video_training.OPTIONS.blur_init, 0.3)
    assert steps.times[-video_training.FROM_BLURRY :].tolist() == times.tolist()
    velocities = torch.randn(len(times), *state.shape)
    expected = state
    for time, velocity in zip(times, velocities, strict=True):
        expected = scheduler.step(velocity, time, expected).prev_sample
    own = path.SamplingPath(scheduler.alphas_cumprod, times.tolist(), CPU)
    torch.testing.assert_close(_walk(own, state, velocities), expected, rtol=1e-4, atol=1e-4)


def test_keyframe_path_is_what_the_sampler_does():
    scheduler: EulerDiscreteScheduler = unclip_training.scheduler()
    times = keyframe_timesteps(unclip_training.STEPS)
    scheduler.set_timesteps(timesteps=times)
    image, noise = torch.randn(2, 3, 4, 2, 2)
    latents = image + scheduler.sigmas[0] * noise
    steps = path.SamplingPath(scheduler.alphas_cumprod, times, CPU)
    kept = steps.kept[0]
    state = kept.sqrt() * image + (1 - kept).sqrt() * noise
    velocities = torch.randn(len(times), *state.shape)
    for time, velocity in zip(scheduler.timesteps, velocities, strict=True):
        scheduler.scale_model_input(latents, time)
        latents = scheduler.step(velocity, time, latents).prev_sample
    torch.testing.assert_close(_walk(steps, state, velocities), latents, rtol=1e-3, atol=1e-3)


def test_slots_begin_anew_where_they_have_arrived():
    schedule = DDIMScheduler()
    steps = path.SamplingPath(schedule.alphas_cumprod, [700, 400, 100], CPU)
    drawn = iter(range(1, 100))

    def draw() -> dict[str, torch.Tensor]:
        value = torch.full((6, 1), float(next(drawn)))
        return {"state": value, "clean": value, "place": torch.zeros(6, dtype=torch.long)}

    torch.manual_seed(0)
    slots = path.Slots(steps, draw)
    places = slots.rows["place"].clone()
    for _ in range(7):
        before = slots.rows["clean"].clone()
        rows = slots.now()
        begun = places == 3
        places[begun] = 0
        assert torch.equal(rows["place"], places)
        assert torch.equal(rows["times"], steps.times[places])
        assert torch.equal(rows["clean"][~begun], before[~begun])
        assert (rows["clean"][begun] > before[begun]).all()
        slots.carry_on(rows["clean"])
        places += 1


def test_decoded_like_keeps_what_is_known():
    torch.manual_seed(0)
    rows = torch.randn(2000, 6) * torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.2])
    degrade = DecodedLike(rows, rank=(3, 3), share=(0.6, 0.6))
    true, made = (x @ degrade.axes for x in (rows - degrade.mean, degrade(rows) - degrade.mean))
    gain = (true * made).mean(0) / true.square().mean(0)
    power = made.square().mean(0) / true.square().mean(0)
    # A decoder's expected values: known share in gain and in power, nothing beyond the rank.
    torch.testing.assert_close(gain[:3], torch.full((3,), 0.6), rtol=0.1, atol=0)
    torch.testing.assert_close(power[:3], torch.full((3,), 0.6), rtol=0.1, atol=0)
    assert made[:, 3:].abs().max() < 1e-3


def test_minutes_are_dealt_by_share():
    budget = Budget(1.0, {"a": 1.0, "b": 2.0, "c": 3.0}, every=5.0, graphs=True)
    assert budget.clock("a").seconds == pytest.approx(10, abs=0.5)
    # A part that cost nothing leaves its seconds to the others.
    assert budget.clock("b").seconds == pytest.approx(24, abs=0.5)
    assert budget.clock("c").seconds == pytest.approx(60, abs=0.5)


def test_a_subjects_errors_and_shares_are_those_of_its_regression():
    torch.manual_seed(3)
    axes, _ = torch.linalg.qr(torch.randn(9, 2))
    share, at = torch.tensor([0.6, 0.3]), torch.tensor([4.0, 1.5])
    known = torch.randn(4000, 2) * at
    errors = torch.randn(4000, 2) * torch.tensor([0.5, 0.2])
    true = known @ axes.T + 1.0
    predicted = (known * share + errors) @ axes.T + 1.0
    decoded = DecodedBy(true, predicted, rank=2)
    assert torch.allclose(decoded.share, share, atol=0.02)
    made = decoded(true, torch.arange(4000))
    slopes = (decoded.components(made) * decoded.components(true)).sum(0)
    slopes = slopes / decoded.components(true).square().sum(0)
    # The share is drawn up to 0.3 of what is missing, 0.15 of it on average.
    assert torch.allclose(slopes, share + 0.15 * (1 - share), atol=0.02)
    assert torch.allclose(decoded.errors.std(0), torch.tensor([0.5, 0.2]), rtol=0.1)


def _trainer(seed: int, muon: bool) -> tuple:
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    inputs = torch.randn(8, 3)

    def loss_of() -> torch.Tensor:
        return (model(inputs) - 1).square().mean()

    by_muon = [model.weight] if muon else []
    return model, loop.Trainer(
        model, loss_of, weight_decay=0.01, average=0.9, graph=False, matrices=by_muon
    )


@pytest.mark.parametrize("muon", [False, pytest.param(True, marks=needs_muon)])
def test_a_state_goes_on_as_if_nothing_had_happened(tmp_path: Path, muon: bool):
    whole, straight = _trainer(0, muon)
    for step in range(20):
        straight.advance(0.01 * (step + 1))
        if step == 9:
            straight.save(tmp_path / "state.safetensors", Clock(100.0, spent=30.0))
    torch.manual_seed(0)
    again, resumed = _trainer(0, muon)
    with torch.no_grad():
        again.weight.zero_()
    clock = Clock(5.0)
    resumed.load(tmp_path / "state.safetensors", clock)
    assert (clock.seconds, resumed.step) == (100.0, 10)
    assert clock.spent == pytest.approx(30.0, abs=1.0)
    for step in range(10, 20):
        resumed.advance(0.01 * (step + 1))
    assert torch.equal(again.weight, whole.weight)
    assert resumed.loss.item() == pytest.approx(straight.loss.item(), rel=1e-6)
    for one, other in zip(resumed.averages.values, straight.averages.values, strict=True):
        assert torch.equal(one, other)


def test_a_lost_loss_stops_the_training():
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="demo: the loss is nan"):
        loop.fit(
            "demo", model, lambda: model.weight.sum() * float("nan"), Clock(5), learning_rate=1e-3
        )


def _one_step(name, model, loss_of, clock, **options):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss_of().backward()
    torch.optim.SGD(trained, lr=1.0).step()


def test_the_decoder_of_the_vae_is_trained_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(vae_training, "fit", _one_step)
    assets = Path(neuroclips_cli.__file__).parent / "assets/tiny"
    for name in ("vae", "clip"):
        shutil.copytree(assets / name, tmp_path / name)
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 64, 64, 3), dtype=np.uint8)
    pool = Pool(frames, np.zeros((2, 4), np.int64))
    vae_training.train_decoder(pool, tmp_path, Clock(1.0), None, 2)
    before, after = (
        load_file(folder / "vae/diffusion_pytorch_model.safetensors")
        for folder in (assets, tmp_path)
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> covered.CoveredFilms:
    return covered.load_covered(tmp_path_factory.mktemp("films"), "video", CPU, scenes=6)


def test_cover_and_centers_say_where_the_object_is(films):
    torch.manual_seed(0)
    shown = films.draw(8)
    cover, away = covered.PatchHead(4, tubelet=2)._targets(shown)
    assert cover.shape == (8, 3 * 64, 64)
    assert away.shape == (8, 3 * 64, 2)
    for clip, centers, ways in zip(shown.cover, shown.centers, away, strict=True):
        # Nothing of an object is further from its center than its radius, and most of it is near.
        rows, columns = torch.meshgrid(*2 * [(torch.arange(64) + 0.5) / 32 - 1], indexing="ij")
        for mask, (x, y) in zip(clip, centers, strict=True):
            far = torch.hypot(columns - x, rows - y)
            assert far[mask > 0].max() < 0.54 * 1.25 + 0.1
            assert mask[far < 0.54].mean() > 0.2
        # Three pairs, eight rows, eight columns: patch 3 x 5 of the second pair.
        there = torch.tensor([5.5, 3.5]) / 4 - 1 - centers[2:4].mean(0)
        torch.testing.assert_close(ways[64 + 3 * 8 + 5], there)
    corner = shown.cover[0, 2:4, 24:32, 40:48].mean(0)
    torch.testing.assert_close(cover[0, 64 + 3 * 8 + 5], corner.flatten())


@needs_muon
def test_evaluators_are_trained_and_written(films, tmp_path):
    image, video = tmp_path / "image", tmp_path / "video"
    stills = covered.CoveredFilms(films.frames[:, :, :1], films.labels, films.centers[:, :1])
    classifiers.train_image(stills, image, Clock(0.1), None, 4)
    classifiers.train_video(films, video, image, Clock(0.1), None, 2)
    frames = ViTForImageClassification.from_pretrained(image, dtype=torch.float32)
    clips = VideoMAEForVideoClassification(
        VideoMAEForVideoClassification.config_class.from_pretrained(video)
    )
    classifiers.start_from_frames(clips, image)
    table = clips.videomae.embeddings.position_embeddings
    torch.testing.assert_close(
        frames.vit.embeddings.position_embeddings[0, 1:], table[0, :64], atol=1e-3, rtol=0
    )
    still = torch.rand(1, 3, 64, 64)
    pairs = clips.videomae.embeddings(still[:, None].expand(-1, 6, -1, -1, -1), None) - table
    seen = frames.vit.embeddings.patch_embeddings(still)
    torch.testing.assert_close(pairs, seen.repeat(1, 3, 1), atol=1e-4, rtol=1e-4)
    for own, block in zip(clips.videomae.encoder.layer, frames.vit.layers, strict=True):
        torch.testing.assert_close(own(seen), block(seen), atol=1e-4, rtol=1e-4)
