"""Which pixels CLIP saw when tokens were made, and what follows for the image made from tokens.

The authors of MindEye2 give the embedder frames in 0..1 and it takes them for -1..1, so that CLIP
sees ``(x + 1) / 2``: a picture without dark tones. MindEye2's checkpoints, NeuroClips', GIT's token
map and the published projector were made so, and the image that unCLIP gives for such tokens is
``x`` where -1..1 is expected (docs/explanation/departures.md).
"""

from __future__ import annotations

from neuroclips_cli.errors import UserError

STANDARD, PUBLISHED = "standard", "published"
SPACES = (PUBLISHED, STANDARD)
"""Values of ``semantics.token_space``."""

AUTO = "auto"
CONTRAST_OF = {STANDARD: "none", PUBLISHED: "released"}
"""Token space to the mapping of decoded images that belongs to it."""


def contrast_for(token_space: str, asked: str) -> str:
    """Return the mapping of keyframes that belongs to the tokens.

    Parameters
    ----------
    token_space : str
        One of :data:`SPACES`.
    asked : str
        ``reconstruct.keyframe_contrast``: ``auto``, or a mapping that has to be the right one.

    Returns
    -------
    str
        A key of ``keyframe.CONTRASTS``.

    Raises
    ------
    UserError
        If the mapping asked for belongs to the other space: every tone would be wrong.
    """
    own = CONTRAST_OF[token_space]
    if asked not in (AUTO, own):
        other = next((s for s, c in CONTRAST_OF.items() if c == asked), "no known")
        raise UserError(
            f"reconstruct.keyframe_contrast = '{asked}' is the mapping of {other} tokens, and "
            f"semantics.token_space is '{token_space}': leave the contrast at auto, or train with "
            f"--set semantics.token_space={other}"
        )
    return own
