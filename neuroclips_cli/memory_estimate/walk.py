"""From scan to video: every stage of a profile, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator

from neuroclips_cli.memory_estimate.generation import Generation
from neuroclips_cli.memory_estimate.needs import MemoryEstimate
from neuroclips_cli.memory_estimate.training import train_perception, train_semantics
from neuroclips_cli.settings.load import Settings

PARTS = ("blurry", "tokens", "keyframes", "captions", "clips", "evaluators")


def walk(settings: Settings, voxels: int, *, device: str, mixed: bool) -> Iterator[MemoryEstimate]:
    """Build every network at true size on the meta device and push shapes through all of them.

    Parameters
    ----------
    settings : Settings
        The profile with whatever was changed in it.
    voxels : int
        Length of a scan.
    device : str
        On which training runs.
    mixed : bool
        Whether training computes in bfloat16 under autocast there; frozen networks are float32.

    Yields
    ------
    MemoryEstimate
        One per stage, as soon as it is known.

    Raises
    ------
    UserError
        Where the first shape does not fit what comes next.
    """
    generation = Generation(settings, voxels)
    yield from generation.targets()
    shape = generation.latent_shape
    yield train_perception(settings, voxels, shape, device=device, mixed=mixed)
    yield from train_semantics(settings, voxels, device=device, mixed=mixed)
    for part in PARTS:
        yield from getattr(generation, part)()


def generate(settings: Settings, voxels: int) -> Iterator[MemoryEstimate]:
    """Do the same without training: what :func:`walk` yields, all but the trainings."""
    generation = Generation(settings, voxels)
    yield from generation.targets()
    for part in PARTS:
        yield from getattr(generation, part)()
