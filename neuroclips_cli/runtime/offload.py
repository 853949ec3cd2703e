"""Offload idle networks to the CPU; those that compute lie on the device."""

from __future__ import annotations

from torch import nn


class ModelOffloader:
    """Keeps one group of networks at a time on the device, the others in the CPU's memory.

    Parameters
    ----------
    device : str
        On which networks compute.
    offload : bool
        False leaves every network on the device, and nothing is moved.
    """

    def __init__(self, device: str, offload: bool) -> None:
        self.device, self.offload = device, offload
        self._there: tuple[nn.Module, ...] = ()

    @property
    def offload_device(self) -> str:
        """Return where networks are kept until they compute."""
        return "cpu" if self.offload else self.device

    def load(self, *networks: nn.Module) -> None:
        """Put networks on the device, after those that are there and not among them went away."""
        if not self.offload:
            return
        for network in self._there:
            if not any(network is one for one in networks):
                network.to("cpu")
        for network in networks:
            network.to(self.device)
        self._there = networks
