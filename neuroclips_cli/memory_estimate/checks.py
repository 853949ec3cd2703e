"""Whether a stage fits the GPU, asked before it begins."""

from __future__ import annotations

from neuroclips_cli.memory_estimate.needs import MemoryEstimate
from neuroclips_cli.memory_estimate.training import Voxels, train_perception, train_semantics
from neuroclips_cli.memory_estimate.walk import walk
from neuroclips_cli.runs.pipeline import BY_NAME
from neuroclips_cli.runtime import distributed
from neuroclips_cli.runtime.precision import computes_in_bfloat16
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.training.memory import require_peak


def require_training_memory(
    settings: Settings,
    stage: str,
    device: str,
    voxels: Voxels,
    latent_shape: tuple[int, int, int] | None = None,
) -> None:
    """Refuse a training whose peak, activations and all, does not fit the GPU.

    Parameters
    ----------
    settings : Settings
        Sizes, batches, savings.
    stage : str
        ``train-sr``, or ``train-pr`` with the ``latent_shape`` of one frame.
    device : str
        Only CUDA is asked.
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several.
    latent_shape : tuple of int, optional
        ``(channels, height, width)``.

    Raises
    ------
    UserError
        Naming the peak, what is free, and the settings that make it smaller.
    """
    if not device.startswith("cuda"):
        return
    mixed = computes_in_bfloat16(settings.run.precision, device)
    section, part = stage.replace("-", "_"), BY_NAME[stage].settings[0]
    advice = (
        f"set {section}.activation_checkpointing=true, a smaller batch, "
        f"{section}.optimizer=adafactor or a smaller {part}.hidden, as profile compact does"
    )
    if latent_shape is not None:
        need = train_perception(settings, voxels, latent_shape, device=device, mixed=mixed)
        return require_peak(device, need.peak + _exchanged(need), stage, advice)
    for need in train_semantics(settings, voxels, device=device, mixed=mixed):
        require_peak(device, need.peak + _exchanged(need), need.stage, advice)
    return None


def _exchanged(need: MemoryEstimate) -> int:
    """Return the bytes of the copy of all gradients that several processes exchange."""
    return need.gradients if distributed.world_size() > 1 else 0


def require_generation_memory(settings: Settings, device: str, voxels: int) -> None:
    """Refuse a reconstruction that does not fit the GPU; as :func:`require_training_memory`."""
    if not device.startswith("cuda"):
        return
    advice = "set reconstruct.offload=true or a smaller reconstruct.batch_size"
    mixed = computes_in_bfloat16(settings.run.precision, device)
    for need in walk(settings, voxels, device=device, mixed=mixed, training=False):
        if need.stage.startswith("reconstruct"):
            require_peak(device, need.peak, need.stage, advice)
