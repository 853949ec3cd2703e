"""Every loss and network under bfloat16 autocast against float32; the settings that choose it.

Losses and networks are found by looking for them: one that is not in the lists below fails a test.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import pkgutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.model_sizes import PR, SR
from torch import nn
from transformers import ConvNextConfig

import neuroclips_cli
from neuroclips_cli import backbones as backbones_package
from neuroclips_cli import losses as losses_package
from neuroclips_cli.backbones.captioner_blip2 import load_captioner
from neuroclips_cli.backbones.captioner_git import TokenConverter
from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.convnext import ConvNextMaps
from neuroclips_cli.backbones.unclip import load_unclip
from neuroclips_cli.backbones.video import load_video_models
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.keyframe import KeyframeOptions, sample_latents
from neuroclips_cli.generation.video import VideoOptions, sample_clip_latents
from neuroclips_cli.losses import contrastive, matching, mixco, perception, prior
from neuroclips_cli.models.head import make_head
from neuroclips_cli.models.matcher import Matcher
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.prior import DiffusionPrior
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.released.perception import PublishedPerception
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone, Semantics
from neuroclips_cli.models.subject_scans import SubjectScans
from neuroclips_cli.models.token_denoiser import TokenDenoiser
from neuroclips_cli.models.token_subspace import TokenSubspace
from neuroclips_cli.protocols import SYNTHETIC, load
from neuroclips_cli.runtime.precision import (
    BFLOAT16,
    FLOAT32,
    autocast,
    choose_precision,
    compute_in,
    in_float32,
)
from neuroclips_cli.runtime.seeding import clip_generators
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.training import objectives
from neuroclips_cli.training.projector import Projection
from neuroclips_cli.training.target_cache import target_key

HALF = {"device": "cpu", "precision": BFLOAT16}
ROWS, DIM = 24, 40


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _modules(package):
    for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(entry.name)


def _alike(count=ROWS):
    """Unit rows whose cosines are close to each other, as neighboring frames' are."""
    center = torch.randn(DIM)
    return [F.normalize(center + 0.3 * torch.randn(count, DIM), dim=-1) for _ in range(3)]


def _mix():
    return mixco.draw_mix(ROWS, 0.15, torch.device("cpu"))


def _latents():
    base = torch.randn(3, 1, 4, 2, 2)
    return [base + 0.2 * torch.randn(3, 5, 4, 2, 2) for _ in range(2)]


def _same_captions():
    image, text, _ = _alike()
    return image, torch.cat([text[: ROWS // 2]] * 2)


LOSSES = {
    contrastive.info_nce: lambda: (*_alike()[:2], 0.006),
    contrastive.frame_info_nce: lambda: (*_latents(), 0.05),
    contrastive.reftm_loss: lambda: (*_same_captions(), 0.006),
    contrastive.soft_clip_loss: lambda: (*_alike()[:2], 0.004),
    contrastive.soft_contrastive_loss: lambda: (*_alike(), 0.02),
    mixco.bimixco_loss: lambda: (*_alike()[:2], 0.006, _mix()),
    perception.latent_error: _latents,
    perception.perception_loss: lambda: (*_latents(), 0.1),
    perception.auxiliary_loss: lambda: (
        *_latents(),
        torch.randn(3, 5, 4, 9),
        torch.randn(3, 5, 2, 4, 9),
        0.2,
    ),
    prior.prior_loss: lambda: (torch.randn(4, 3, 9), torch.randn(4, 3, 9)),
    matching.matching_loss: lambda: (torch.randn(30), (torch.rand(30) > 0.5).float()),
}
NO_LOSSES = {
    mixco.draw_mix,
    mixco.mix_rows,
    mixco.mix_targets,
    contrastive.annealed_temperature,
}
"""Draws, targets and schedules: what they give is not a loss."""


def test_every_loss_is_in_the_list():
    found = {
        function
        for module in _modules(losses_package)
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    }
    assert found == set(LOSSES) | NO_LOSSES


def test_no_loss_is_written_out_elsewhere():
    words = {"cross_entropy", "mse_loss", "l1_loss", "binary_cross_entropy_with_logits", "kl_div"}
    root = Path(neuroclips_cli.__file__).parent
    for path in root.rglob("*.py"):
        if path.parent.name == "losses":
            continue
        tree = ast.parse(path.read_text("utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        used = {call.attr for call in calls if isinstance(call, ast.Attribute)}
        assert not used & words, (path, used & words)


def _with_gradient(function, args, precision):
    first = args[0].clone().requires_grad_()
    with autocast("cpu", precision):
        found = function(first, *args[1:])
    found = found if isinstance(found, tuple) else (found,)
    return [*found, torch.autograd.grad(found[0], first)[0]]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_loss_under_autocast_is_that_of_float32(loss):
    args = LOSSES[loss]()
    expected = _with_gradient(loss, args, FLOAT32)
    found = _with_gradient(loss, args, BFLOAT16)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_without_the_guard_the_same_inputs_give_another_loss():
    image, text = _same_captions()
    bare = contrastive.reftm_loss.__wrapped__
    with autocast(**HALF):
        rounded = bare(image, text, 0.006)
    assert abs(rounded - bare(image, text, 0.006)) > 1e-3 * bare(image, text, 0.006)


def test_half_precision_arguments_are_widened_and_all_others_left_alone():
    seen = []

    @in_float32
    def look(*args, **kwargs):
        seen.extend([*args, *kwargs["more"], torch.is_autocast_enabled("cpu")])

    double, whole = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    with autocast(**HALF):
        look(torch.zeros(2, dtype=torch.bfloat16), double, more=[whole, torch.zeros(1)])
    assert seen[0].dtype == torch.float32 and seen[1] is double and seen[2] is whole
    assert seen[4] is False


class _Fixed(nn.Module):
    """Stands for a network: gives the same float32 tensors whatever it is asked."""

    timesteps = 10

    def __init__(self, *outputs):
        super().__init__()
        self.outputs = nn.ParameterList(outputs)

    def forward(self, *_, **__):
        return tuple(self.outputs) if len(self.outputs) > 1 else self.outputs[0]

    with_auxiliary = forward

    @property
    def diffusion_prior(self):
        return _FixedPrior(self.outputs[0])


class _FixedPrior:
    timesteps = 10

    def __init__(self, tokens):
        self.tokens = tokens

    def draw(self, tokens, generator=None):
        return {}

    def __call__(self, brain, tokens, **_):
        return None, self.tokens[: len(tokens)]


def _tokens():
    return torch.randn(ROWS, 3, DIM)


def _semantics_batch():
    return {"fmri": torch.randn(ROWS, 7), "tokens": _tokens(), "text": torch.randn(ROWS, 9)}


def _objective(kind):
    projector = TokenProjector(torch.randn(DIM, 9))
    predicted, target = _latents()
    if kind is objectives.PerceptionObjective:
        batch = {"fmri": torch.randn(3, 7), "latents": target}
        return kind(_Fixed(predicted), 0.1, 1.0), batch
    if kind is objectives.AuxiliaryObjective:
        batch = {"fmri": torch.randn(3, 7), "latents": target, "maps": torch.randn(3, 5, 2, 4, 9)}
        return kind(_Fixed(predicted, torch.randn(3, 5, 4, 9)), 0.2, 0.1), batch
    network = _Fixed(_tokens(), _tokens())
    if kind is objectives.ContrastiveObjective:
        more = {"projector": projector, "reftm_weight": 0.25}
        return kind(network, network, 0.006, 0.15, **more), _semantics_batch()
    weights = {"temperature": 0.006, "mixco_beta": 0.15, "prior_weight": 30, "reftm_weight": 1}
    return kind(network, network, projector, **weights), _semantics_batch()


def _objectives():
    members = [member for _, member in inspect.getmembers(objectives, inspect.isclass)]
    base = objectives.Objective
    return [member for member in members if issubclass(member, base) and member is not base]


@pytest.mark.parametrize("kind", _objectives(), ids=lambda kind: kind.__name__)
def test_an_objective_under_autocast_is_that_of_float32(kind):
    objective, batch = _objective(kind)
    torch.manual_seed(3)
    expected = objective(batch)
    torch.manual_seed(3)
    with autocast(**HALF):
        found = objective(batch)
    for name, value in expected.items():
        assert abs(found[name] - value) <= 1e-5 * abs(value), name


POOL = ((0, 20), (1, 12))
"""Places of two subjects among those of a pool, and their voxels."""


def _alone(network, *args, call=None):
    return network, (lambda: (call or network)(*args))


def _perception():
    return _alone(Perception(20, 3, PR, (4, 4, 6)), torch.randn(5, 20))


def _pooled_perception():
    scans = [SubjectScans.of_one(torch.randn(3, 2, size), n, (20, 12)) for n, size in POOL]
    network = Perception([20, 12], 3, PR, (4, 4, 6), window=2)
    return network, lambda: torch.cat([network(part) for part in scans])


def _published_perception():
    sizes = replace(PR, network="published", start_size=7, decoder_channels=(32, 32, 32), hidden=32)
    network = PublishedPerception(20, 3, sizes, (7, 7), 4)
    return _alone(network, torch.randn(2, 20), call=network.with_auxiliary)


def _semantics():
    return _alone(Semantics(20, SR, 6, 16), torch.randn(5, 20))


def _published_backbone():
    return _alone(PublishedSemanticsBackbone(16, 2, 0.0, 6, 16), torch.randn(5, 16))


def _diffusion_prior():
    network = DiffusionPrior(32, 6, depth=3, heads=4, head_dim=12, timesteps=10)
    given = torch.randn(4, 6, 32), torch.randn(4, 6, 32)
    times = torch.randint(0, 10, (4,))
    noise = torch.randn(4, 6, 32)
    return _alone(network, *given, call=lambda a, b: network(a, b, times=times, noise=noise)[1])


def _subspace():
    network = TokenSubspace(2, 6, 16)
    network.fit(torch.randn(9, 6, 16))
    return _alone(network, torch.randn(4, 6, 16))


def _matcher():
    pair = F.normalize(torch.randn(2, 9, 12), dim=-1)
    return _alone(Matcher(12, 24), *pair)


def _head():
    return _alone(make_head(16, 6, 24, 8), torch.randn(5, 16))


def _projection():
    return _alone(Projection(torch.randn(16, 8)), torch.randn(5, 16))


def _convnext():
    config = ConvNextConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 16, 32, 32], layer_scale_init_value=0.0
    )
    return _alone(ConvNextMaps(config, [32, 24, 24, 16]), torch.rand(2, 3, 64, 64))


def _token_denoiser():
    network = TokenDenoiser(96, 8, 16, 8)
    for values in network.buffers():
        nn.init.normal_(values)
    return _alone(network, torch.randn(5, 6, 16))


NETWORKS = (
    _perception,
    _pooled_perception,
    _published_perception,
    _semantics,
    _published_backbone,
    _diffusion_prior,
    _subspace,
    _matcher,
    _head,
    _projection,
    _convnext,
    _token_denoiser,
    lambda: _alone(TokenProjector(torch.randn(16, 8)), torch.randn(5, 6, 16)),
    lambda: _alone(
        TokenConverter(
            {
                "linear1.weight": torch.randn(9, 6) / 3,
                "linear1.bias": torch.randn(9),
                "linear2.weight": torch.randn(8, 16) / 4,
                "linear2.bias": torch.randn(8),
            }
        ),
        torch.randn(5, 6, 16),
    ),
)
NO_NETWORKS = {"_GivenStates", "ConsistentDropout", *(kind.__name__ for kind in _objectives())} | {
    "Objective",
    "FrameGroupNorm",  # part of the video networks, below
}


def _named(modules):
    return {type(m).__name__ for m in modules if type(m).__module__.startswith("neuroclips_cli")}


def test_every_network_is_in_the_list():
    found = {
        kind.__name__
        for module in _modules(neuroclips_cli)
        if module.__name__.split(".")[1] in ("models", "backbones", "training", "losses")
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, nn.Module) and kind.__module__ == module.__name__
    }
    covered = set().union(*(_named(make()[0].modules()) for make in NETWORKS))
    # Blocks that a subclass stands for are covered by it.
    covered |= {"ResidualMLP", "PublishedMixer", "_AttendedBlock"}
    assert found - NO_NETWORKS == covered


@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_a_network_under_autocast_computes_the_function_of_float32(make):
    network, call = make()
    network.eval()
    with torch.no_grad():
        expected = call()
        with autocast(**HALF):
            found = call()
    pairs = zip(*((x,) if torch.is_tensor(x) else x for x in (found, expected)), strict=True)
    for a, b in pairs:
        assert (a.float() - b).norm() <= 0.02 * b.norm()


def _trained_prior(epsilon):
    """A prior whose attention norms get small variances, as at full width."""
    network = DiffusionPrior(
        64, 8, depth=3, heads=4, head_dim=12, timesteps=20, drop_probability=0.0, epsilon=epsilon
    )
    with torch.no_grad():
        for layer in network.net.causal_transformer.layers:
            layer[0].to_out[0].weight.mul_(0.1)
    return network


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
@pytest.mark.parametrize(("precision", "share"), [(FLOAT32, 1e-6), (BFLOAT16, 0.02)])
def test_the_prior_is_one_function_in_training_validation_and_sampling(epsilon, precision, share):
    network = _trained_prior(epsilon)
    brain, image, noise = torch.randn(3, 6, 8, 64)
    times = torch.randint(0, 20, (6,))
    noisy = network.noise_scheduler.add_noise(image, times, noise)
    expected = network.net(noisy, times, brain).detach()
    kept = torch.ones(6, dtype=torch.bool)
    with autocast("cpu", precision):
        trained = network.train()(
            brain, image, times=times, noise=noise, keep_brain=kept, keep_image=kept
        )[1].detach()
        network.eval()
        with torch.no_grad():
            validated = network(brain, image, times=times, noise=noise)[1]
    frozen = compute_in(precision, _frozen_copy(network).net, store=False)
    with torch.inference_mode():
        sampled = frozen(noisy, times, brain)
    for name, found in (("trained", trained), ("validated", validated), ("sampled", sampled)):
        assert found.dtype == torch.float32
        assert (found - expected).norm() <= share * expected.norm(), name


def _frozen_copy(network):
    return copy.deepcopy(network).eval().requires_grad_(False)


def test_another_epsilon_is_another_function():
    network = _trained_prior(1e-5)
    brain, noisy = torch.randn(2, 6, 8, 64)
    times = torch.randint(0, 20, (6,))
    first = network.net(noisy, times, brain)
    for layer in network.net.causal_transformer.layers:
        layer[0].to_out[1].epsilon = 1e-3
    assert (network.net(noisy, times, brain) - first).norm() > 0.02 * first.norm()


@pytest.mark.parametrize("steps", [8, 20])
def test_what_a_trained_prior_samples_in_bfloat16_is_what_it_samples_in_float32(steps):
    network = _trained_prior(1e-3)
    learn = torch.optim.Adam(network.parameters(), lr=2e-3)
    maps = torch.randn(64, 64) / 8
    for _ in range(120):  # an untrained one implies noise that no step takes away again
        brain = torch.randn(16, 8, 64)
        loss, _ = network(brain, brain @ maps)
        learn.zero_grad()
        loss.backward()
        learn.step()
    network = _frozen_copy(network)
    brain, start = torch.randn(2, 4, 8, 64)
    noise = torch.randn(steps, 4, 8, 64)
    expected = network.sample(brain, steps=steps, start=start, step_noise=noise)
    compute_in(BFLOAT16, network.net, store=False)
    found = network.sample(brain, steps=steps, start=start, step_noise=noise)
    assert found.dtype == torch.float32
    assert (found - expected).norm() <= 0.02 * expected.norm()


@pytest.fixture(scope="module")
def tiny():
    return load_settings({"run.profile": "tiny"}, environ={}).backbones


def _frames():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)


def _near(found, expected, share=0.05):
    assert found.dtype == expected.dtype == np.float32
    assert np.linalg.norm(found - expected) <= share * np.linalg.norm(expected)


def _clip(tiny, precision):
    clip = load_clip(tiny.clip, "cpu", precision)
    return [clip.tokens(_frames()), clip.image_embeddings(_frames()), clip.text_embeddings(["a"])]


def _images(_, precision):
    name = load(SYNTHETIC).evaluators.image_classifier
    return [load_image_classifier(name, "cpu", precision).probabilities(_frames())]


def _videos(_, precision):
    name = load(SYNTHETIC).evaluators.video_classifier
    clips = np.stack([np.resize(_frames(), (16, 64, 64, 3))] * 2)
    return [load_video_classifier(name, "cpu", precision).probabilities(clips)]


def _keyframes(tiny, precision):
    unet = load_unclip(tiny.unclip, "cpu", precision)
    torch.manual_seed(1)
    tokens = torch.randn(2, tiny.tokens, tiny.token_dim)
    latents = sample_latents(
        unet, tokens, clip_generators(0, [0, 1], "keyframe"), KeyframeOptions(steps=4)
    )
    return [latents.numpy()]


def _clips(tiny, precision):
    models = load_video_models(tiny, "cpu", precision)
    assert next(models.vae.parameters()).dtype == torch.float32
    latents = sample_clip_latents(
        models,
        ["a red fish", "a moon"],
        "blurry",
        clip_generators(0, [0, 1], "clip"),
        VideoOptions(steps=3, guidance_scale=2.0),
        latent_size=(8, 8),
        keyframes=torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)),
    )
    return [latents.numpy()]


BACKBONES = {
    "load_clip": _clip,
    "load_image_classifier": _images,
    "load_video_classifier": _videos,
    "load_unclip": _keyframes,
    "load_video_models": _clips,
}
SAID = {"load_captioner", "load_git_captioner"}
"""They give words; the test after the next one listens to them."""
FLOAT32_ALWAYS = {"load_vae", "load_convnext", "load_token_denoiser"}


def test_every_backbone_that_computes_is_in_the_lists():
    found = {
        name: function
        for module in _modules(backbones_package)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("load_") and function.__module__ == module.__name__
    }
    with_precision = {n for n, f in found.items() if "precision" in inspect.signature(f).parameters}
    assert with_precision == {*BACKBONES, *SAID, "load_network"}
    without = {"load_projector", "load_converter", "load_pretrained", "load_scheduler"}
    without |= {"load_captioner_fn"}  # chooses one of `SAID`
    assert set(found) - with_precision == FLOAT32_ALWAYS | without


@pytest.mark.parametrize("name", BACKBONES)
def test_a_frozen_network_in_bfloat16_gives_float32_near_to_it(tiny, name):
    for found, expected in zip(
        BACKBONES[name](tiny, BFLOAT16), BACKBONES[name](tiny, FLOAT32), strict=True
    ):
        _near(found, expected)
        assert not np.array_equal(found, expected)  # it did compute otherwise


def test_captioners_speak_in_bfloat16(tiny):
    captioner = load_captioner(tiny.captioner, "cpu", BFLOAT16)
    assert captioner.model.vision_model.encoder.layers[0].mlp.fc1.weight.dtype == torch.bfloat16
    assert len(captioner.caption(_frames())) == 5


def test_precision_follows_word_and_device(monkeypatch):
    assert [choose_precision(w, "cpu") for w in ("auto", "float32", "highest", "bfloat16")] == [
        FLOAT32,
        FLOAT32,
        FLOAT32,
        BFLOAT16,
    ]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for word, expected, tf32 in (
            ("auto", BFLOAT16, True),
            ("bfloat16", BFLOAT16, True),
            ("float32", FLOAT32, True),
            ("highest", FLOAT32, False),
        ):
            assert choose_precision(word, "cuda") == expected
            assert torch.backends.cuda.matmul.allow_tf32 is tf32
            assert torch.backends.cudnn.allow_tf32 is tf32
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
        assert choose_precision("auto", "cuda") == FLOAT32
        with pytest.raises(UserError, match="does not compute in bfloat16"):
            choose_precision("bfloat16", "cuda")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_a_target_cache_knows_its_precision_and_keeps_its_name_in_float32():
    names = [target_key("a", "b/c", None, word) for word in (FLOAT32, BFLOAT16)]
    assert names[0] == target_key("a", "b/c", None)
    assert names[0] != names[1]
