"""One real training step of each reconstructor at a profile's true size, timed, with its memory.

    python examples/full_width_step.py --profile compact
    python examples/full_width_step.py --profile compact --set semantics.hidden=4096 prior

Random scans and targets of the profile's batch, subject 1's 13447 voxels. Every phase runs in a
process of its own, on the CPU in float32, so that its peak (resident memory) is its own; the
computed peak of `neuroclips doctor --dry-run` stands beside. A phase that computes to more than
`--limit` GB is not run.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor

from neuroclips_cli.io.atomic import human_size
from neuroclips_cli.memory_estimate.needs import MemoryEstimate
from neuroclips_cli.memory_estimate.training import train_perception, train_semantics
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.training.activation_checkpointing import checkpoint_as_set
from neuroclips_cli.training.objectives import PerceptionObjective
from neuroclips_cli.training.optimizer import make_optimizer
from neuroclips_cli.training.phases import contrastive_objective, prior_objective

VOXELS = 13447
PHASES = ("perception", "contrastive", "prior")


def computed(settings: Settings) -> dict[str, MemoryEstimate]:
    """Return what the dry run computes for each phase."""
    side = settings.data.frame_size // 8
    first = train_perception(settings, VOXELS, (4, side, side), device="cpu", mixed=False)
    rest = train_semantics(settings, VOXELS, device="cpu", mixed=False)
    return dict(zip(PHASES, (first, *rest), strict=True))


def build(settings: Settings, phase: str) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Return a phase's objective and a random batch of its size."""
    data, backbones = settings.data, settings.backbones
    if phase == "perception":
        side = data.frame_size // 8
        latent = (4, side, side)
        model = make_perception(VOXELS, data.frames_per_clip, settings.perception, latent)
        options = settings.train_pr
        checkpoint_as_set(model, options)
        size = options.batch_size
        batch = {"latents": torch.randn(size, data.frames_per_clip, *latent)}
        objective = PerceptionObjective(model, options.temperature, options.contrast_weight)
        return objective, batch | {"fmri": torch.randn(size, VOXELS)}
    semantics = Semantics(VOXELS, settings.semantics, backbones.tokens, backbones.token_dim)
    checkpoint_as_set(semantics, settings.train_sr)
    projector = TokenProjector(torch.randn(backbones.token_dim, backbones.embed_dim))
    first = phase == "contrastive"
    make = contrastive_objective if first else prior_objective
    options = settings.train_sr
    size = options.contrastive_batch_size if first else options.prior_batch_size
    return make(settings, semantics, projector), {
        "fmri": torch.randn(size, VOXELS),
        "tokens": torch.randn(size, backbones.tokens, backbones.token_dim),
        "text": torch.randn(size, backbones.embed_dim),
    }


def step(settings: Settings, phase: str) -> None:
    """Take the step in this process and print time and peak."""
    torch.manual_seed(0)
    base = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options = settings.train_pr if phase == "perception" else settings.train_sr
    objective, batch = build(settings, phase)
    optimizer = make_optimizer(
        objective,
        options.learning_rate,
        options.weight_decay,
        options.ridge_weight_decay,
        options.optimizer,
    )
    began = time.monotonic()
    loss = objective(batch)["loss"]
    loss.backward()
    optimizer.step()
    seconds = time.monotonic() - began
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{phase}: loss {loss.item():.3f}, {seconds:.1f} s, peak {human_size(peak)} "
        f"({human_size(base)} of it before the network)",
        flush=True,
    )


def main() -> None:
    """Compute every phase's peak, and run those that stay below the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("phases", nargs="*", default=PHASES, metavar="phase")
    parser.add_argument("--profile", default="compact")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--limit", type=float, default=15.0, help="GB that a phase may take")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    changed = dict(item.split("=", 1) for item in given.set)
    settings = load_settings({"run.profile": given.profile, **changed}, environ={})
    if given.here:
        step(settings, given.phases[0])
        return
    needs = computed(settings)
    for phase in given.phases:
        need = needs[phase]
        print(
            f"{phase}: {need.parameters / 1e6:.1f} M parameters, computed {human_size(need.peak)}"
        )
        if need.peak > 1e9 * given.limit:
            print(f"{phase}: not run, above --limit {given.limit:g} GB", flush=True)
            continue
        again = [sys.executable, __file__, phase, "--here", "--profile", given.profile]
        options = [word for item in given.set for word in ("--set", item)]
        subprocess.run([*again, *options], check=True)


if __name__ == "__main__":
    main()
