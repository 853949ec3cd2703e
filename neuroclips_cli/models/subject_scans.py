"""Scans of several subjects in one batch: a part each, since their voxels are not the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuroclips_cli.runtime.precision import to_device

Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SubjectScans:
    """One batch part per subject, one after the other; rows are counted through all parts.

    Attributes
    ----------
    parts : tuple of Tensor
        ``(rows, ..., voxels)`` per subject; a part may be empty, none is left out.
    averaged : Tensor or None
        ``(rows of all parts,)`` bool on the CPU: rows that go through the average subject's layer
        instead of their own (subject dropout). None: no row does.

    Examples
    --------
    >>> scans = SubjectScans((torch.zeros(2, 3), torch.ones(1, 5)))
    >>> len(scans), [tuple(part.shape) for part in scans[1:].parts]
    (3, [(1, 3), (1, 5)])
    """

    parts: tuple[Tensor, ...]
    averaged: Tensor | None = None

    def __len__(self) -> int:
        """Return the rows of all parts."""
        return sum(map(len, self.parts))

    @classmethod
    def of_one(cls, fmri: Tensor, place: int, voxels: Sequence[int]) -> SubjectScans:
        """Return one subject's scans as a batch in which the others have no rows."""
        shape = fmri.shape[1:-1]
        parts = [fmri.new_zeros((0, *shape, size)) for size in voxels]
        parts[place] = fmri
        return cls(tuple(parts))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of every part."""
        return tuple(map(len, self.parts))

    @property
    def device(self) -> torch.device:
        """Where the scans lie."""
        return self.parts[0].device

    def __getitem__(self, rows: slice) -> SubjectScans:
        """Return consecutive rows; parts without any of them stay, empty."""
        start, stop, _ = rows.indices(len(self))
        parts, begin = [], 0
        for part in self.parts:
            parts.append(part[max(start - begin, 0) : max(stop - begin, 0)])
            begin += len(part)
        averaged = None if self.averaged is None else self.averaged[start:stop]
        return SubjectScans(tuple(parts), averaged)

    def to(self, device: torch.device) -> SubjectScans:
        """Move the scans to a device, as float32."""
        parts = tuple(to_device(part, device).float() for part in self.parts)
        return SubjectScans(parts, self.averaged)

    def pin_memory(self) -> SubjectScans:
        """Copy the scans to pinned memory."""
        return SubjectScans(tuple(part.pin_memory() for part in self.parts), self.averaged)

    def through(self, layers: Sequence[Layer], average: Layer | None = None) -> SubjectScans:
        """Send every part through its subject's layer.

        Every layer is called, with no rows if need be, so that each process and each piece of a
        batch sees the same network.

        Parameters
        ----------
        layers : sequence of callable
            One per part.
        average : callable, optional
            For the rows that ``averaged`` marks; their parts have the same voxels.

        Returns
        -------
        SubjectScans
            What the layers made of the parts.
        """
        if self.averaged is None or average is None:
            made = [layer(part) for layer, part in zip(layers, self.parts, strict=True)]
            return SubjectScans(tuple(made))
        parts = []
        for layer, part, marked in zip(
            layers, self.parts, self.averaged.split(self.sizes), strict=True
        ):
            own = to_device((~marked).nonzero().flatten(), part.device)
            other = to_device(marked.nonzero().flatten(), part.device)
            by_own, by_average = layer(part[own]), average(part[other])
            joined = torch.cat([by_own, by_average])
            parts.append(joined[torch.cat([own, other]).argsort()])
        return SubjectScans(tuple(parts), self.averaged)

    def joined(self) -> Tensor:
        """Return the rows of all parts, which have to be of one width, as one tensor."""
        return torch.cat(self.parts)


class OneSubject:
    """A network of several subjects as one subject's own: scans in, its answer out.

    Parameters
    ----------
    model : nn.Module
        Takes :class:`SubjectScans`.
    place : int
        The subject's.
    voxels : sequence of int
        Length of every subject's scans.
    """

    def __init__(self, model: nn.Module, place: int, voxels: Sequence[int]) -> None:
        self.model, self.place, self.voxels = model, place, voxels

    def __call__(self, fmri: Tensor) -> Any:
        """Decode the subject's scans."""
        return self.model(SubjectScans.of_one(fmri, self.place, self.voxels))

    def __getattr__(self, name: str) -> Any:
        """Return a part of the network, such as its ``diffusion_prior``."""
        return getattr(self.model, name)


Scans = Tensor | SubjectScans
"""One subject's scans ``(batch, voxels)`` or ``(batch, volumes, voxels)``, or several subjects'."""


class SubjectLayers(nn.ModuleList):
    """One module per subject: what differs between subjects of a network that is shared.

    Parameters
    ----------
    modules : sequence of nn.Module
        In the order of the subjects.
    """

    def forward(self, scans: SubjectScans, average: Layer | None = None) -> SubjectScans:
        """Send every subject's part through its module."""
        return scans.through(list(self), average)
