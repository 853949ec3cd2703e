"""What is stated on the field of a setting: meaning, unit, allowed words and limits.

A field of :mod:`neuroclips_cli.settings.schema` reads::

    tr_s: Annotated[float, Range(0, exclusive=True), Unit("s"), Doc("Repetition time.")]
    grayordinates: Annotated[Literal["small", "91k"], Doc("Layout of the simulated brain.")]

:func:`read_field` turns such a type into a :class:`SettingField`, which the checks,
``neuroclips config``, the file that ``neuroclips init`` writes and the documentation read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

_TYPE_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Doc:
    """What a setting means: sentences of plain text."""

    text: str


@dataclass(frozen=True)
class Unit:
    """The unit of a number, such as ``"s"`` or ``"pixels"``."""

    name: str


@dataclass(frozen=True)
class Range:
    """The numbers that a setting accepts.

    Parameters
    ----------
    low : float
        Smallest value.
    high : float or None
        Largest value, if there is one.
    exclusive : bool
        Whether ``low`` itself is left out.
    """

    low: float
    high: float | None = None
    exclusive: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether a number is within the limits.

        >>> Range(0, 1).holds(1), Range(0, exclusive=True).holds(0)
        (True, False)
        """
        above = value > self.low if self.exclusive else value >= self.low
        return above and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        """Return the limits in words, to follow "it must be".

        >>> str(Range(0, 1)), str(Range(1)), str(Range(0, exclusive=True))
        ('from 0 to 1', 'at least 1', 'above 0')
        """
        if self.high is not None:
            return f"from {self.low:g} to {self.high:.10g}"
        return f"above {self.low:g}" if self.exclusive else f"at least {self.low:g}"


@dataclass(frozen=True)
class Words:
    """The words that a text accepts; ``name:<x>`` takes a number from 0 to 1 after the colon.

    A ``Literal`` says the same where no word has a number.
    """

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)


@dataclass(frozen=True)
class SettingField:
    """One setting, as its field states it.

    Attributes
    ----------
    key : str
        Dotted key, such as ``"train_pr.epochs"``.
    kind : type
        ``int``, ``float``, ``str`` or ``bool``; of a list that of its items.
    is_list : bool
        Whether it holds any number of such values.
    words : tuple of str
        The allowed words of a text; empty: any text.
    limits : Range or None
        The limits of a number.
    unit : str
        The unit of a number; empty: none.
    doc : str
        What it means.
    """

    key: str
    kind: type
    is_list: bool
    words: tuple[str, ...]
    limits: Range | None
    unit: str
    doc: str

    @property
    def accepts(self) -> str:
        """What values are accepted, in words: ``"number, above 0, in s"``."""
        if self.words:
            return ("any of " if self.is_list else "one of ") + ", ".join(self.words)
        parts = [_TYPE_NAMES[self.kind]]
        if self.is_list:
            parts = ["list of " + parts[0] + ("" if self.kind is str else "s")]
        if self.limits:
            parts.append(str(self.limits))
        if self.unit:
            parts.append(f"in {self.unit}")
        return ", ".join(parts)


def read_field(key: str, hint: Any) -> SettingField:
    """Read the type of a setting's field with its marks.

    Parameters
    ----------
    key : str
        Dotted key of the setting.
    hint : type
        The field's type as ``typing.get_type_hints(..., include_extras=True)`` returns it.

    Returns
    -------
    SettingField

    Raises
    ------
    TypeError
        If the field has no :class:`Doc`, a number no :class:`Range`, or the type is none of those
        that a settings file can hold.
    """
    kind, marks = _unwrapped(hint)
    is_list = get_origin(kind) is tuple
    if is_list:
        kind, item_marks = _unwrapped(get_args(kind)[0])
        marks = [*marks, *item_marks]
    words: tuple[str, ...] = ()
    if get_origin(kind) is Literal:
        words, kind = get_args(kind), str
    found = {type(mark): mark for mark in marks}
    if kind not in _TYPE_NAMES or Doc not in found or (kind in (int, float)) != (Range in found):
        raise TypeError(f"{key} needs a type of TOML, a Doc and, as a number, a Range; not {hint}")
    return SettingField(
        key=key,
        kind=kind,
        is_list=is_list,
        words=found[Words].words if Words in found else words,
        limits=found.get(Range),
        unit=found[Unit].name if Unit in found else "",
        doc=found[Doc].text,
    )


def _unwrapped(hint: Any) -> tuple[Any, Sequence[Any]]:
    """Return a type without its marks, and the marks."""
    if get_origin(hint) is Annotated:
        kind, *marks = get_args(hint)
        return kind, marks
    return hint, ()
