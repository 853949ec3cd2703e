"""Inception Extension: one scan becomes one scan per frame (paper 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from neuroclips_cli.models.subject_scans import SubjectLayers, SubjectScans


class InceptionExtension(nn.Module):
    """A shallow MLP that extends one fMRI scan to ``frames`` scans.

    Every extended scan is the measured one plus what the MLP adds for that frame. The released
    code has no such path around the MLP and ends in a GELU, so that its extended fMRI can hardly
    be negative; with the path, the ridge layer sees all voxels and not only what fits through the
    MLP's hidden width.

    Parameters
    ----------
    voxels : int
        Length of a scan.
    frames : int
        Nf, frames kept of a clip.
    hidden : int
        Width of the MLP (released code: 256).

    Notes
    -----
    ``Y_i = y + W_i gelu(W_0 y + b_0) + b_i`` for frame i of Nf (paper 3.1, ``Y_c -> Y``).

    Examples
    --------
    >>> import torch
    >>> tuple(InceptionExtension(voxels=5, frames=6, hidden=3)(torch.zeros(2, 5)).shape)
    (2, 6, 5)
    """

    def __init__(self, voxels: int, frames: int, hidden: int) -> None:
        super().__init__()
        self.frames = frames
        self.lin0 = nn.Sequential(nn.Linear(voxels, hidden), nn.GELU())
        self.lin1 = nn.Linear(hidden, frames * voxels)
        # Small at first: the frames begin as the measured scan and part from it while learning.
        nn.init.normal_(self.lin1.weight, std=0.1 * hidden**-0.5)
        nn.init.zeros_(self.lin1.bias)

    def forward(self, fmri: Tensor) -> Tensor:
        """Extend one scan to a scan per frame.

        Parameters
        ----------
        fmri : Tensor
            ``(batch, voxels)`` or ``(batch, window, voxels)``, standardized.

        Returns
        -------
        Tensor
            ``(batch, frames, voxels)`` or ``(batch, frames, window, voxels)``: every volume of a
            window is extended alike.
        """
        extended = self.lin1(self.lin0(fmri)).unflatten(-1, (self.frames, -1))
        return fmri[:, None] + extended.movedim(-2, 1)


class SubjectExtensions(nn.Module):
    """Several subjects' extensions: they work on voxels, which no two subjects share.

    Parameters
    ----------
    extensions : sequence of nn.Module
        One per subject, each from ``(batch, voxels)`` to ``(batch, frames, voxels)``.
    average : nn.Module, optional
        That of the average subject, where subjects share a space.
    """

    def __init__(self, extensions: Sequence[nn.Module], average: nn.Module | None = None) -> None:
        super().__init__()
        self.subjects = SubjectLayers(extensions)
        self.average = average

    def forward(self, scans: SubjectScans) -> SubjectScans:
        """Extend every subject's part by its own module."""
        extended: SubjectScans = self.subjects(scans, self.average)
        return extended


def make_extension(
    make: Callable[[int], nn.Module], voxels: int | Sequence[int], *, average: bool = False
) -> nn.Module:
    """Build one subject's extension, or one for each of several subjects.

    Parameters
    ----------
    make : callable
        Number of voxels to an extension.
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several.
    average : bool
        Whether there is an average subject's, too.
    """
    if isinstance(voxels, int):
        return make(voxels)
    modules = [make(size) for size in voxels]
    return SubjectExtensions(modules, make(voxels[0]) if average else None)
