"""The recorded references: where they lie, and how they are read and compared.

``NEUROCLIPS_FIXTURES`` names their folder (default ``../shared/fixtures``). Tests take every size
from the records themselves, so that they hold for any set of the same layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

FIXTURES = Path(
    os.environ.get("NEUROCLIPS_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")
)


ROUNDINGS = 4.0
"""Their rounding and ours, each up to twice what one run of ours shows."""


def record(path: str) -> dict[str, Any]:
    """Read a recorded JSON file."""
    return json.loads((FIXTURES / path).read_text("utf-8"))


def tensors(path: str) -> dict[str, torch.Tensor]:
    """Read a recorded safetensors file; half precision, used to save space, becomes float32."""
    import torch
    from safetensors.torch import load_file

    return {
        name: value.float() if value.dtype == torch.float16 else value
        for name, value in load_file(FIXTURES / path).items()
    }


def part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Take the keys below a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Compared:
    """One recorded array beside ours.

    Attributes
    ----------
    fixture, array : str
        Which file and which array in it.
    difference : float
        Largest absolute difference; infinite where shapes differ or a value is not a number.
    tolerance : float
        The record's suggestion; 0 asks for equality.
    """

    fixture: str
    array: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Tell whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


class Comparison:
    """Collects rows for one file.

    Parameters
    ----------
    fixture : str
        Its name in the table.
    recorded : mapping
        Array name to recorded tensor, array or number.
    """

    def __init__(self, fixture: str, recorded: Mapping[str, Any]) -> None:
        self.fixture, self.recorded = fixture, recorded
        self.rows: list[Compared] = []

    def add(
        self,
        array: str,
        ours: Any,
        tolerance: float,
        *,
        relative: float = 0.0,
        exact: Any = None,
    ) -> Comparison:
        """Compare one array.

        ``relative`` adds that share of its largest value to the tolerance. ``exact`` is ours in
        float64: where float32 is farther from it than the suggested tolerance was made for, four
        times that distance is the tolerance. A network that is wrong differs by far more.
        """
        theirs = np.asarray(self.recorded[array], dtype=np.float64)
        made = np.asarray(_plain(ours), dtype=np.float64)
        difference = float("inf")
        if made.shape == theirs.shape and np.isfinite(made).all():
            difference = float(np.abs(made - theirs).max(initial=0.0))
        if relative:
            tolerance = tolerance + relative * float(np.abs(theirs).max(initial=0.0))
        if exact is not None:
            rounding = np.abs(made - np.asarray(_plain(exact), dtype=np.float64)).max(initial=0.0)
            tolerance = max(tolerance, ROUNDINGS * float(rounding))
        self.rows.append(Compared(self.fixture, array, difference, tolerance))
        return self

    def left_out(self, *given: str) -> list[str]:
        """Recorded arrays that no row compares and that are not inputs.

        ``given`` names the inputs; a name that ends in a dot or underscore is a prefix.
        """
        prefixes = tuple(name for name in given if name.endswith((".", "_")))
        known = {row.array for row in self.rows}.union(given)
        return [n for n in self.recorded if n not in known and not n.startswith(prefixes)]


def _plain(values: Any) -> Any:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
