"""doctor's dry run: every stage of the profile at true size, without its weights."""

from __future__ import annotations

from neuroclips_cli import console
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size
from neuroclips_cli.memory_estimate.needs import MemoryEstimate
from neuroclips_cli.memory_estimate.walk import stage_count, walk
from neuroclips_cli.models.released.checkpoints import VOXELS
from neuroclips_cli.runs.stage import read_array, stage_folder
from neuroclips_cli.runtime.precision import computes_in_bfloat16
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.training.memory import device_memory

HEADER = ("stage", "parameters", "weights", "gradients", "optimizer", "activations", "peak", "fits")


def run(settings: Settings) -> bool:
    """Print what every stage needs (computed), and where the first shape does not fit, if any.

    Parameters
    ----------
    settings : Settings
        The profile with whatever was changed in it.

    Returns
    -------
    bool
        Whether every stage connects; one that does not fit the memory is reported, not refused.
    """
    try:
        device = choose_device(settings.run.device)
    except UserError:  # reported by the check of the device
        device = "cpu"
    voxels, source = voxels_of(settings)
    memory = device_memory(device)
    mixed = computes_in_bfloat16(settings.run.precision, device)
    found: list[MemoryEstimate] = []
    stopped = ""
    try:
        with console.progress("Dry run", stage_count(settings), unit="stage") as advance:
            for need in walk(settings, voxels, device=device, mixed=mixed):
                found.append(need)
                advance(1)
    except UserError as problem:
        stopped = str(problem)
    precision = "bfloat16 under autocast" if mixed else "float32"
    where = f"{device} with {human_size(memory)}" if memory else device
    sizes = voxels if isinstance(voxels, int) else " + ".join(map(str, voxels))
    title = f"Computed memory on {where}; {sizes} voxels ({source}); computed in {precision}"
    console.table(title, HEADER, [_row(need, memory) for need in found])
    if stopped:
        console.error(stopped)
        return False
    console.info(f"every stage connects, from scan to video ({len(found)} stages)")
    large = [need.stage for need in found if memory and need.peak > memory]
    if large:
        console.warn(f"too large for {where}: {', '.join(large)}; see docs/how-to/low-memory.md")
    return True


def voxels_of(settings: Settings) -> tuple[int | list[int], str]:
    """Return the length of a scan and where it is from: this run, or the paper's subject.

    Of a decoder of several subjects, the length of each one's.
    """
    found = [_voxels_of(settings, subject) for subject in settings.run.subjects]
    if not found:
        return _voxels_of(settings, settings.run.subject)
    return [voxels for voxels, _ in found], ", ".join(dict.fromkeys(source for _, source in found))


def _voxels_of(settings: Settings, subject: int) -> tuple[int, str]:
    own = replace_settings(settings, {"run.subject": subject})
    scans = stage_folder(own, "preprocess") / "fmri_test.npy"
    if scans.is_file():
        return read_array(scans).shape[-1], "of this run"
    by_subject = {subject: voxels for voxels, subject in VOXELS.items()}
    return by_subject.get(subject, by_subject[1]), "as in the paper"


def _row(need: MemoryEstimate, memory: int | None) -> tuple[str, ...]:
    sizes = (need.weights, need.gradients, need.states, need.activations, need.peak)
    fits = "unknown" if memory is None else "yes" if need.peak <= memory else "no"
    shown = (human_size(size) if size else "" for size in sizes)
    return (need.stage, f"{need.parameters / 1e6:.1f} M", *shown, fits)
