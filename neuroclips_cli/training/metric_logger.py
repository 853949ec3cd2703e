"""One line per epoch in ``metrics.jsonl``, and the same figures for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from neuroclips_cli.io import atomic
from neuroclips_cli.runtime import distributed


class MetricLogger:
    """Writer of a training's figures; use it as a context.

    Parameters
    ----------
    folder : Path
        Gets ``metrics.jsonl`` and TensorBoard event files, from the first process only.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        self.board = SummaryWriter(str(folder)) if distributed.is_main_process() else None

    def __enter__(self) -> MetricLogger:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the event file."""
        if self.board is not None:
            self.board.close()

    def truncate(self, phase: str, epoch: int) -> None:
        """Drop the lines of ``phase`` after ``epoch``: a resumed run writes them again."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the process was killed while writing this line
            if entry["phase"] != phase or entry["epoch"] <= epoch:
                kept.append(line + "\n")
        atomic.write_text(self.path, "".join(kept))

    def write(self, phase: str, epoch: int, figures: dict[str, Any]) -> None:
        """Append one epoch's figures."""
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"phase": phase, "epoch": epoch, **figures}) + "\n")
        if self.board is None:
            return
        for name, value in figures.items():
            self.board.add_scalar(f"{phase}/{name}", value, epoch)
        self.board.flush()
