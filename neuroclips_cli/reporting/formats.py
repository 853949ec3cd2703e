"""Tables of text as Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "−": "$-$",
}


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text already.

    Attributes
    ----------
    title : str
    columns : tuple of str
    rows : tuple of tuple of str
        One cell per column; the first is a label, the others are figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(tables: Sequence[TextTable], notes: Sequence[str] = ()) -> str:
    """Return tables and notes as GitHub-flavoured Markdown."""
    parts = []
    for table in tables:
        lines = [table.columns, ("---",) * len(table.columns), *table.rows]
        cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        parts.append(f"**{table.title}**\n")
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n")
    parts += [f"{note}\n" for note in notes]
    return "\n".join(parts)


def latex(tables: Sequence[TextTable], notes: Sequence[str] = ()) -> str:
    """Return tables and notes as LaTeX floats; they need the package ``booktabs``."""
    parts = []
    for number, table in enumerate(tables):
        last = notes if number == len(tables) - 1 else ()
        rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in table.rows]
        parts += [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(map(escape_latex, table.columns)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {escape_latex(note)}" for note in last),
            r"\end{table}",
            "",
        ]
    return "\n".join(parts)


def escape_latex(text: str) -> str:
    """Return text with every character that LaTeX would read as a command spelled out."""
    return "".join(_LATEX.get(letter, letter) for letter in text)
