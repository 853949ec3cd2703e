"""Which clips to generate: the option ``--clips``."""

from __future__ import annotations

from neuroclips_cli.errors import UserError


def parse_clips(text: str | None, count: int) -> list[int]:
    """Read clip numbers from ``0:50``, ``7``, ``10:``, ``0:100:4`` or a list ``1,5,9:12``.

    Parameters
    ----------
    text : str or None
        The option's value; None or empty means every clip.
    count : int
        Test clips there are.

    Returns
    -------
    list of int
        Ascending, without repeats.

    Raises
    ------
    UserError
        If the text is no range, or names no clip that exists.
    """
    if not text:
        return list(range(count))
    chosen: set[int] = set()
    for part in text.split(","):
        try:
            numbers = [int(number) if number.strip() else None for number in part.split(":")]
            if len(numbers) > 3 or numbers == [None]:
                raise ValueError
            if len(numbers) == 1 and numbers[0] is not None:
                chosen |= {numbers[0]} & set(range(count))
            else:
                chosen |= set(range(count)[slice(*numbers)])
        except ValueError:
            raise UserError(
                f"--clips '{text}' is not a range: write 0:50, 10:, 7 or a list such as 1,5,9:12."
            ) from None
    if not chosen:
        raise UserError(
            f"--clips '{text}' names none of the {count} test clips (0 to {count - 1})."
        )
    return sorted(chosen)
