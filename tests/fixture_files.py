"""The recorded references: where they lie, and how tests and ``examples/parity.py`` read them.

``NEUROCLIPS_FIXTURES`` names their folder (default ``../shared/fixtures``). Tests take every size
from the records themselves, so that they hold for any set of the same layout.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

FIXTURES = Path(
    os.environ.get("NEUROCLIPS_FIXTURES", Path(__file__).parents[2] / "shared" / "fixtures")
)


def needs(path: str) -> list[pytest.MarkDecorator]:
    """Mark tests as ``oracle`` and skip them, saying so, where ``path`` is not recorded."""
    missing = not (FIXTURES / path).exists()
    reason = f"no recorded reference at {FIXTURES / path} (NEUROCLIPS_FIXTURES)"
    return [pytest.mark.oracle, pytest.mark.skipif(missing, reason=reason)]


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
