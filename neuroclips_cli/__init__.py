"""From fMRI to fluent video: an open implementation of NeuroClips (NeurIPS 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuroclips_cli.api import Run, evaluate_clips, open_run

__version__ = "0.2.0"
__all__ = ["Run", "evaluate_clips", "open_run"]


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is asked for: the commands do without it."""
    if name in __all__:
        from neuroclips_cli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names that are imported when asked for, too."""
    return sorted({*globals(), *__all__})
