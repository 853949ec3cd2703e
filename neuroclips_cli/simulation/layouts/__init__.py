"""Layouts that ``neuroclips simulate`` writes."""

from __future__ import annotations

from neuroclips_cli.simulation.layouts.base import Layout
from neuroclips_cli.simulation.layouts.cc2017 import Cc2017
from neuroclips_cli.simulation.layouts.fmriprep import Fmriprep

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (Cc2017(), Fmriprep())}

__all__ = ["LAYOUTS", "Layout"]
