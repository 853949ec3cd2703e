"""cc2017 (Wen et al. 2017) in any nesting: ``seg1_1_Atlas.dtseries.nii`` and ``seg1.mp4``."""

from __future__ import annotations

from neuroclips_cli.data.layout import find_layout, is_run_name
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.run_table import RunRow, subject_number
from neuroclips_cli.io.folders import Tree


class Cc2017:
    """The data set of the paper, and what :mod:`neuroclips_cli.simulation` writes by default."""

    name = "cc2017"

    def recognizes(self, tree: Tree) -> str:
        """See :class:`neuroclips_cli.data.readers.Reader`."""
        runs = [path for path in (*tree.files, *tree.dead_links) if is_run_name(path)]
        return f"{len(runs)} runs such as {runs[0].name}" if runs else ""

    def run_table(self, tree: Tree, subject: str, options: ReaderOptions) -> list[RunRow]:
        """See :class:`neuroclips_cli.data.readers.Reader`; the film's start follows from its end.

        ``scan_start_s`` and ``duration_s`` are None: the number of leading volumes follows from
        the lengths of film and run (:func:`neuroclips_cli.signal.windows.leading_volumes`).
        """
        number = subject_number(subject)
        layout = find_layout(
            tree.root,
            number,
            volumetric=options.volumetric,
            space=options.space,
            test_only=options.test_only,
            tree=tree,
        )
        return [
            RunRow(
                subject=f"{number:02d}",
                session="",
                files=(path,),
                key="",
                film=segment.film,
                film_start_s=0.0,
                scan_start_s=None,
                duration_s=None,
                tr_s=None,
                split=segment.split,
                repetition=repetition,
            )
            for segment in (*layout.train, *layout.test)
            for repetition, path in segment.runs.items()
        ]
