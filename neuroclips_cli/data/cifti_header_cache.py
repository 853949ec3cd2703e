"""Open the second and every later run of a subject without reading its brain models again.

A dense time series says in half a megabyte of XML which vertex each of 91282 columns is. nibabel
needs a second for that, a run's data a tenth of it, and all runs of a subject say the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FIXED, _XML_CODE = 540, 32
"""Bytes of the NIfTI-2 header; the code of CIFTI's extension."""
_VOLUME = re.compile(rb"<Volume\b.*?</Volume>", re.DOTALL)
_FIELDS = ("datatype", "bitpix", "intent_code", "scl_slope", "scl_inter", "qform_code")


@dataclass(frozen=True)
class KnownHeader:
    """What the file whose header nibabel has read says.

    Attributes
    ----------
    fixed
        Its NIfTI-2 header.
    models
        The parts of its XML that list the brain models, and the grid of those of voxels.
    """

    fixed: Any
    models: bytes

    @classmethod
    def of(cls, path: Path) -> KnownHeader | None:
        """Take it from a file; None where it is not laid out as usual."""
        read = _read(path)
        return None if read is None else cls(read[0], read[1])

    def open(self, path: Path) -> tuple[Any, Any] | None:
        """Return the series axis and the data of a file with the same brain models.

        Returns
        -------
        tuple or None
            nibabel's ``SeriesAxis`` and ``ArrayProxy``; None where anything is unusual, so that
            nibabel has to read the whole header and to find the words for what is wrong.
        """
        from nibabel.arrayproxy import ArrayProxy
        from nibabel.cifti2 import SeriesAxis
        from nibabel.cifti2.parse_cifti2 import Cifti2Parser

        read = _read(path)
        if read is None or read[1] != self.models:
            return None
        fixed, _, rest = read
        mine, theirs = fixed["dim"].tolist(), self.fixed["dim"].tolist()
        same = all(_same(fixed[name], self.fixed[name]) for name in _FIELDS)
        if not same or mine[:5] + mine[6:] != theirs[:5] + theirs[6:]:
            return None
        try:
            parser = Cifti2Parser()
            parser.parse(string=rest)
            series = parser.header.get_axis(0)
            kind = parser.header.matrix.get_index_map(1).indices_map_to_data_type
            if not isinstance(series, SeriesAxis) or kind != "CIFTI_INDEX_TYPE_BRAIN_MODELS":
                return None
            slope, inter = fixed.get_slope_inter()
            spec = (tuple(mine[5:7]), fixed.get_data_dtype(), fixed.get_data_offset())
            scale = (1.0 if slope is None else slope, 0.0 if inter is None else inter)
            data = ArrayProxy(path, (*spec, *scale), mmap=False)
        except Exception:  # the parser fails in many ways; the ordinary way will say how
            return None
        return series, data


def _same(one: Any, other: Any) -> bool:
    """Tell whether two fields are equal, NaN (no scaling) being equal to itself."""
    return bool(one == other or (one != one and other != other))


def _read(path: Path) -> tuple[Any, bytes, bytes] | None:
    """Return header, brain models, and the XML without them; None where that is not possible."""
    from nibabel.nifti2 import Nifti2Header

    try:
        with open(path, "rb") as stream:
            block = stream.read(_FIXED)
            fixed = Nifti2Header(block, check=False)
            extension = stream.read(int(fixed["vox_offset"]) - _FIXED)
    except Exception:  # no file, no header, a senseless offset
        return None
    if block[4:8] != b"n+2\0" or int(fixed["dim"][0]) != 6 or len(extension) < 12:
        return None
    order = "little" if fixed.endianness == "<" else "big"
    size, code = (int.from_bytes(extension[i : i + 4], order) for i in (4, 8))  # type: ignore[arg-type]
    xml = extension[12 : 4 + size]
    start, end = xml.find(b"<BrainModel"), xml.rfind(b"</BrainModel>")
    if code != _XML_CODE or not 0 < start < end:
        return None
    end += len(b"</BrainModel>")
    grid = _VOLUME.search(xml)
    models = xml[start:end] + (grid[0] if grid else b"")
    return fixed, models, (xml[:start] + xml[end:]).rstrip(b"\0")
