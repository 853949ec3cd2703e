"""What a training step waits for: nothing; and batches gathered ahead are those of any machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neuroclips_cli.losses import Mix, draw_mix
from neuroclips_cli.memory_estimate.training import build_semantics
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.training import loop
from neuroclips_cli.training.batches import BatchLoader
from neuroclips_cli.training.optimizer import make_optimizer
from neuroclips_cli.training.phases import contrastive_objective, prior_objective
from neuroclips_cli.training.samples import ClipSamples, SeededOrder


class Waits(TorchDispatchMode):
    """Notes what would make the host wait for a device, for which the meta device stands.

    Reading a value there fails by itself; a copy that is not asked for as one that continues by
    itself is noted, and so is one that comes back.
    """

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        devices = [x.device.type for x in tree_leaves(args) if isinstance(x, torch.Tensor)]
        name = func.overloadpacket.__name__
        if name in ("nonzero", "_local_scalar_dense", "masked_select") and "meta" in devices:
            self.found.append(name)
        if name == "index" and any(
            x is not None and x.dtype == torch.bool and x.device.type == "meta" for x in args[1]
        ):
            self.found.append("index by a mask")
        if name == "_to_copy" and kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type
            if there != devices[0] and not kwargs.get("non_blocking"):
                self.found.append(f"copy from {devices[0]} to {there}")
        if name == "copy_" and len(set(devices)) == 2 and not (len(args) > 2 and args[2]):
            self.found.append(f"copy from {devices[1]} to {devices[0]}")
        return func(*args, **kwargs)


def _step(kind, extra=lambda batch: None):
    settings = load_settings({"run.profile": "tiny"}, environ={})
    backbones, options = settings.backbones, settings.train_sr
    model = build_semantics(settings, 50)
    width = settings.semantics.hidden if options.ridge_closed_form else 50
    weight = torch.empty(backbones.token_dim, backbones.embed_dim, device="meta")
    objective = kind(settings, model, TokenProjector(weight))
    if hasattr(objective, "draw_mix"):
        objective.draw_mix = draw_mix  # the real one, not the estimate's
    optimizer = make_optimizer(objective, 1e-3, 0.0, 0.0)
    shapes = {
        "fmri": (24, width),
        "tokens": (24, backbones.tokens, backbones.token_dim),
        "text": (24, backbones.embed_dim),
    }
    batch = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    with Waits() as waits:
        extra(batch)
        objective(batch)["loss"].backward()
        loop._gradient_size(objective)
        optimizer.step()
        optimizer.zero_grad()
    return waits.found


@pytest.mark.parametrize("kind", [contrastive_objective, prior_objective])
def test_a_step_makes_the_host_wait_for_nothing(kind):
    assert _step(kind) == []


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (lambda batch: batch["fmri"].sum().item(), "_local_scalar_dense"),
        (lambda batch: (batch["fmri"] > 0).nonzero(), "nonzero"),
        (lambda batch: batch["fmri"][batch["fmri"] > 0], "index by a mask"),
        (lambda batch: torch.zeros(3).to("meta"), "copy from cpu to meta"),
        (lambda batch: batch["fmri"].copy_(torch.zeros(batch["fmri"].shape)), "copy from cpu"),
    ],
)
def test_a_wait_that_is_added_is_found(extra, name):
    found = []

    def note(batch):
        try:
            extra(batch)
        except (RuntimeError, NotImplementedError):
            found.append("refused")

    found += _step(contrastive_objective, note)
    assert any(what.startswith(name) for what in found)


def _samples():
    rng = np.random.default_rng(0)
    fmri = rng.standard_normal((20, 2, 6)).astype(np.float32)
    tokens = rng.standard_normal((20, 3, 4, 5)).astype(np.float16)
    return ClipSamples(
        fmri,
        np.arange(20),
        {"tokens": tokens},
        repetition_mix_prob=0.5,
        noise=0.3,
        frame_targets=("tokens",),
    )


def _epoch(epoch, disturb=0):
    order = SeededOrder(40, 5, "x")
    order.epoch = epoch
    batches = []
    for batch in BatchLoader(_samples(), 12, order, torch.device("cpu")):
        torch.rand(disturb)
        batches.append(batch)
    return batches


def test_batches_follow_from_seed_epoch_and_step_alone():
    first, second, other = _epoch(1), _epoch(1, disturb=7), _epoch(2)
    assert len(first) == 3
    for a, b, c in zip(first, second, other, strict=True):
        assert a["tokens"].dtype == a["fmri"].dtype == torch.float32
        for name in a:
            assert torch.equal(a[name], b[name])
            assert not torch.equal(a[name], c[name])


def test_half_precision_reaches_the_device_as_it_lies_on_disk():
    batch = _samples().batch([0, 1], torch.Generator().manual_seed(0))
    assert batch["tokens"].dtype == torch.float16 and batch["fmri"].dtype == torch.float32
    assert _samples()[0]["tokens"].dtype == torch.float32


def test_a_failure_while_gathering_ends_the_training():
    samples = _samples()
    samples.targets["tokens"] = samples.targets["tokens"][:4]
    with pytest.raises(IndexError):
        list(BatchLoader(samples, 12, SeededOrder(40, 5, "x"), torch.device("cpu")))


def test_an_epoch_that_is_left_early_leaves_no_thread():
    import threading

    before = threading.active_count()
    batches = iter(BatchLoader(_samples(), 4, SeededOrder(40, 5, "x"), torch.device("cpu")))
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_unmixed_rows_are_known_on_the_cpu():
    selected = torch.tensor([True, False, True, False])
    draw = Mix(torch.arange(4), torch.ones(4), selected)
    assert draw.unmixed().tolist() == [1, 3]
    assert Mix(torch.arange(2), torch.ones(2), torch.ones(2).bool()).unmixed().tolist() == [0, 1]
