"""Open image files with nibabel: NIfTI, CIFTI-2, GIFTI, MGH; what is wrong is said by its kind."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content

_LARGEST_RATIO = 1032
"""Deflate never makes less of more: a .gz file holds at most so many times its own size."""
_CIFTI_1 = re.compile(rb"<CIFTI[^>]*\bVersion\s*=\s*[\"']1")
_XML_BEGINS = 4096
"""Bytes within which a CIFTI file's XML begins, behind its NIfTI header of 540."""


def load(path: Path) -> Any:
    """Open an image file with nibabel.

    Raises
    ------
    UserError
        If it is missing, was not fetched, is CIFTI-1, of a kind that nibabel does not read, or
        damaged.
    """
    import nibabel as nib

    require_content(path)
    if _is_cifti_1(path):
        raise UserError(
            f"{path} is CIFTI-1, an older format that is not read: convert it with "
            f"`wb_command -file-convert -cifti-version-convert {path.name} 2 NEW.nii`"
        )
    if path.suffix.lower() == ".annot":
        raise UserError(
            f"{path} is a FreeSurfer annotation, which is not read: make a GIFTI label file of it "
            f"with `mris_convert --annot {path.name} SURFACE NEW.label.gii`"
        )
    # Slices of a compressed file are read in order: keep it open instead of starting over.
    more = {"keep_file_open": True} if _is_packed_volume(path) else {}
    return read_or_raise(path, lambda: nib.load(path, **more))


def _is_packed_volume(path: Path) -> bool:
    return path.suffix.lower() == ".gz" and not path.name.lower().endswith(".gii.gz")


def _is_cifti_1(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return bool(_CIFTI_1.search(stream.read(_XML_BEGINS)))
    except OSError:
        return False


def check_length(path: Path, data: Any) -> None:
    """Refuse a file that cannot hold the data that its header claims, before they get memory."""
    whole = data.offset + data.dtype.itemsize * math.prod(map(int, data.shape))
    packed = path.suffix.lower() in (".gz", ".mgz", ".bz2")
    size = path.stat().st_size * (_LARGEST_RATIO if packed else 1)
    if size < whole:
        held = f"{whole} bytes claimed" if packed else f"{size} of {whole} bytes"
        raise UserError(f"{path} is cut short ({held}): copy or download it again")


def read_or_raise(path: Path, read: Callable[[], Any]) -> Any:
    """Read from a file that may be cut short or hold garbage.

    Raises
    ------
    UserError
        Whatever nibabel, the XML parser or gzip say, as one sentence that names the file.
    """
    try:
        return read()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path") from error
    except (UserError, PermissionError):
        raise
    except Exception as error:  # the parsers of nibabel, XML and gzip fail in many ways
        reason = (str(error).splitlines() or [""])[0][:160].rstrip(".") or type(error).__name__
        raise UserError(
            f"{path} is damaged or cut short ({reason}): copy or download it again"
        ) from error
