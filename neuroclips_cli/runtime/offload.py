"""Networks that wait lie in the CPU's memory; those that work lie on the device."""

from __future__ import annotations

from torch import nn


class ModelOffloader:
    """Room on the device for one group of networks at a time.

    Parameters
    ----------
    device : str
        Where networks work.
    offload : bool
        False leaves every network on the device, and the desk does nothing.
    """

    def __init__(self, device: str, offload: bool) -> None:
        self.device, self.offload = device, offload
        self._there: tuple[nn.Module, ...] = ()

    @property
    def waiting(self) -> str:
        """Where networks are loaded to."""
        return "cpu" if self.offload else self.device

    def bring(self, *networks: nn.Module) -> None:
        """Put networks on the device, after those that are there and not among them went away."""
        if not self.offload:
            return
        for network in self._there:
            if not any(network is one for one in networks):
                network.to("cpu")
        for network in networks:
            network.to(self.device)
        self._there = networks
