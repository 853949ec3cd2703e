"""Windows of volumes: those acquired during the film and those that answer to it (paper 4.1)."""

from __future__ import annotations

from neuroclips_cli.errors import UserError

POSSIBLE_LEADING = (1, 2)


def leading_volumes(volumes: int, clips: int, trailing: int, *, run: str, film: str) -> int:
    """Count the volumes to drop before the film starts.

    cc2017's runs hold one volume per 2 s clip plus 1 or 2 leading and 4 trailing ones
    (NeuroClips paper 4.1 and the data set's own MATLAB code: 245 or 246 volumes for 240 clips).

    Parameters
    ----------
    volumes : int
        Volumes in the run's file.
    clips : int
        Whole clips in the movie.
    trailing : int
        Volumes dropped at the end of every run.
    run, film : str
        File names for the error message.

    Returns
    -------
    int
        ``volumes - clips - trailing``, which is 1 or 2.

    Raises
    ------
    UserError
        If any other number remains: the run is cut short, or the film is.

    Examples
    --------
    >>> leading_volumes(245, 240, 4, run="seg1.nii", film="seg1.mp4")
    1
    """
    leading = volumes - clips - trailing
    if leading in POSSIBLE_LEADING:
        return leading
    expected = " or ".join(str(clips + trailing + n) for n in POSSIBLE_LEADING)
    cause = (
        "the film is shorter than the run or the run holds too much"
        if leading > max(POSSIBLE_LEADING)
        else "the run is cut short or the film is longer than it"
    )
    raise UserError(
        f"{run} has {volumes} volumes where {expected} are expected for the {clips} clips of "
        f"{film} ({cause}): replace the one that is wrong"
    )


def film_window(leading: int, clips: int) -> slice:
    """Return the volumes acquired while the film ran, one per clip (no shift).

    Parameters
    ----------
    leading : int
        Volumes before the film starts.
    clips : int
        Whole clips in the movie.

    Returns
    -------
    slice
        ``clips`` volumes.

    Examples
    --------
    >>> film_window(1, 240)
    slice(1, 241, None)
    """
    return slice(leading, leading + clips)
