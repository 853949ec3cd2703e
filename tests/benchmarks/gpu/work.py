"""What a case is: how to build it, what one call does, what stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from neuroclips_cli.settings.load import Settings, load_settings
from tests.benchmarks.gpu.modes import FLOAT32, RELEASED_HALF, STORED, Mode

PROFILES = {"full": "paper", "tiny": "tiny"}
VOXELS = {"full": 13447, "tiny": 500}
KEYFRAMES = {"full": 8, "tiny": 2}
CLIPS = {"full": 4, "tiny": 2}
FRAMES = {"full": 64, "tiny": 4}
JUDGED_CLIPS = {"full": 16, "tiny": 2}
"""What one call takes; frames and evaluated clips are the package's own batches."""


@dataclass(frozen=True)
class Place:
    """Where and at which size a case is built.

    Attributes
    ----------
    device : str
        ``cuda``, ``cpu``, or ``meta`` to count.
    size : str
        ``full`` or ``tiny``.
    """

    device: str
    size: str

    @property
    def settings(self) -> Settings:
        """Settings of the profile, with the closed-form ridge off so that all sizes do the same."""
        changed = {
            "run.profile": PROFILES[self.size],
            "train_sr.ridge_closed_form": "false",
            "reconstruct.batch_size": str(CLIPS[self.size]),
        }
        return load_settings(changed, environ={})

    def normal(self, *shape: int) -> Tensor:
        """Return normal random numbers of the device."""
        return torch.randn(shape, device=self.device)

    def scratch(self, items: int) -> np.ndarray:
        """Return random frames, uint8 ``(items, size, size, 3)``, on the host."""
        side = self.settings.data.frame_size
        return np.random.default_rng(0).integers(0, 256, (items, side, side, 3), np.uint8)


Call = Callable[[Mode], object]


@dataclass
class Released:
    """The same task as the released code does it.

    Attributes
    ----------
    call : Call
        Does it once.
    items : int
        Clips, images or frames of one call.
    mode : Mode
        Its precision.
    """

    call: Call
    items: int
    mode: Mode = RELEASED_HALF


@dataclass
class Work:
    """A case, built.

    Attributes
    ----------
    call : Call
        Does the case once, in the precision given.
    items : int
        Clips, images or frames of one call.
    inputs : list of Tensor
        Drawn anew before every call.
    networks : list of torch.nn.Module
        Frozen ones may be stored in 16 bits; the blocks of all may be compiled.
    trained : bool
        Whether a call is a training step.
    released : Released, optional
        Where the released code has a way of its own.
    package : callable, optional
        One call of the package's own function with its host part; returns the items it did.
    loop : callable, optional
        ``loop(epochs)`` trains with the package's loop; returns the steps it took.
    modes : tuple of Mode
        Beside the plain ones.
    """

    call: Call
    items: int
    inputs: list[Tensor]
    networks: list[nn.Module]
    trained: bool = False
    released: Released | None = None
    package: Callable[[], int] | None = None
    loop: Callable[[int], int] | None = None
    modes: tuple[Mode, ...] = (STORED,)
    compiled_warm_up: int = 2
    extra: dict[str, float] = field(default_factory=dict)

    def renew(self) -> None:
        """Draw the inputs anew."""
        for tensor in self.inputs:
            tensor.normal_()

    def count(self) -> None:
        """Do the call on the meta device, in float32."""
        self.call(FLOAT32)


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes
    ----------
    name : str
        In the table.
    build : callable
        Place to work.
    stage : str
        Of the dry run, whose memory stands beside; empty for none.
    """

    name: str
    build: Callable[[Place], Work]
    stage: str = ""
