"""From scan to video: every stage of a profile, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator

from neuroclips_cli.generation.decoder import PARTS
from neuroclips_cli.memory_estimate.generation import Generation
from neuroclips_cli.memory_estimate.needs import MemoryEstimate
from neuroclips_cli.memory_estimate.training import Voxels, train_perception, train_semantics
from neuroclips_cli.runtime.precision import BFLOAT16, FLOAT32
from neuroclips_cli.settings.load import Settings


def walk(
    settings: Settings, voxels: Voxels, *, device: str, mixed: bool, training: bool = True
) -> Iterator[MemoryEstimate]:
    """Build every network at true size on the meta device and push shapes through all of them.

    Parameters
    ----------
    settings : Settings
        The profile with whatever was changed in it.
    voxels : int or sequence of int
        Length of a scan; of several subjects, the longest is decoded and all are trained together.
    device : str
        On which training runs.
    mixed : bool
        Whether the device computes in bfloat16 under autocast; then frozen networks keep the
        weights of their products in bfloat16, as they do when they are loaded.
    training : bool
        Whether the trainings are among the stages.

    Yields
    ------
    MemoryEstimate
        One per stage, as soon as it is known.

    Raises
    ------
    UserError
        Where the first shape does not fit what comes next.
    """
    longest = voxels if isinstance(voxels, int) else max(voxels)
    generation = Generation(settings, longest, BFLOAT16 if mixed else FLOAT32)
    yield from generation.targets()
    if training:
        shape = generation.latent_shape
        yield train_perception(settings, voxels, shape, device=device, mixed=mixed)
        yield from train_semantics(settings, voxels, device=device, mixed=mixed)
    for part in (*PARTS, "evaluators"):
        yield from getattr(generation, part)()


def stage_count(settings: Settings) -> int:
    """Return how many stages :func:`walk` yields; GIT is small and not counted."""
    return 13 if settings.reconstruct.captioner == "blip2" else 12
