"""Layouts that ``neuroclips simulate`` writes."""

from __future__ import annotations

from neuroclips_cli.simulation.layouts.algonauts import Algonauts
from neuroclips_cli.simulation.layouts.base import Layout
from neuroclips_cli.simulation.layouts.bold_moments import BoldMoments
from neuroclips_cli.simulation.layouts.cc2017 import Cc2017
from neuroclips_cli.simulation.layouts.cinebrain import CineBrain
from neuroclips_cli.simulation.layouts.fmriprep import Fmriprep
from neuroclips_cli.simulation.layouts.hcp7t import Hcp7t

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (Cc2017(), Fmriprep(), Hcp7t(), Algonauts(), CineBrain(), BoldMoments())
}

__all__ = ["LAYOUTS", "Layout"]
