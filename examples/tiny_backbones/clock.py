"""Minutes dealt out to the parts of a training."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """The seconds of one part, those of an interrupted run counted in.

    Attributes
    ----------
    seconds : float
        Budget of the part.
    spent : float
        Seconds that an interrupted run has used of it.
    every : float
        Seconds between two checkpoints.
    graphs : bool
        Whether steps may be replayed as CUDA graphs.
    """

    seconds: float
    spent: float = 0.0
    every: float = 60.0
    graphs: bool = True
    began: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Return the seconds used so far."""
        return self.spent + time.monotonic() - self.began

    def progress(self) -> float:
        """Return the share of the budget that is used, 0 to 1."""
        return min(1.0, self.elapsed() / self.seconds)


class Budget:
    """Deals what is left of the minutes to the parts that are left, by their shares.

    Parameters
    ----------
    minutes : float
        For all parts together, what lies between them counted in.
    shares : dict of str to float
        Share of every part that is to be trained, in order.
    every, graphs
        As in :class:`Clock`.
    """

    def __init__(
        self, minutes: float, shares: dict[str, float], every: float, graphs: bool
    ) -> None:
        self.ends = time.monotonic() + 60 * minutes
        self.shares, self.every, self.graphs = dict(shares), every, graphs

    def clock(self, part: str) -> Clock:
        """Return a part's clock and count the part as dealt with."""
        left = max(self.ends - time.monotonic(), 1.0)
        total = sum(self.shares.values())
        seconds = left * self.shares.pop(part) / total
        return Clock(seconds, every=self.every, graphs=self.graphs)
