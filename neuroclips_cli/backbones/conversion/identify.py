"""What a file is, by its first bytes: weights have many endings, and so has what is not weights."""

from __future__ import annotations

import html
import re
import struct
import zipfile
from pathlib import Path

from neuroclips_cli.errors import UserError

HEAD = 4096
SAFETENSORS, TORCH = "safetensors", "torch"
LFS = b"version https://git-lfs.github.com/spec/"
ANNEX = re.compile(rb"^\s*(?:\.\./)*(?:\.git)?/?annex/objects/")
FOREIGN = (
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"BZh", "a bzip2 archive: unpack it"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!", "a rar archive: unpack it"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and MATLAB write: take PyTorch's weights"),
    (b"\x93NUMPY", "a numpy array: take PyTorch's weights"),
    (b"GGUF", "a GGUF file of llama.cpp: take PyTorch's weights"),
    (b"%PDF", "a PDF document: fetch the weights"),
    (b"\x89PNG", "a picture: fetch the weights"),
)
"""First bytes, and what the file is."""


def format_of(path: Path) -> str:
    """Tell by its content how a weight file is to be read: ``safetensors`` or ``torch``.

    A file of no known kind is ``torch``, too: its reader then says what is wrong. What is known to
    be something else is refused: a pointer of Git LFS or git-annex, a web page, another library's
    format, a TorchScript program, a piece of a sharded training.
    """
    _require_file(path)
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    if head[:4] == b"PK\x03\x04":
        _require_torch_archive(path)
        return TORCH
    if _is_safetensors(head):
        return SAFETENSORS
    _refuse_text(path, head)
    for mark, what in FOREIGN:
        if head.startswith(mark):
            raise UserError(f"{path} holds no weights that can be read, it is {what} first")
    if head[257:262] == b"ustar":
        raise UserError(
            f"{path} holds no weights that can be read, it is a tar archive: unpack it first; one "
            "that torch before 0.1.10 wrote is saved anew with a later torch"
        )
    pickled = head.startswith(b"\x80")
    return SAFETENSORS if path.suffix == ".safetensors" and not pickled else TORCH


def _require_file(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        target = str(path.readlink())
        if "annex/objects" in target:
            raise UserError(
                f"{path} is a link of git-annex whose content is not here: fetch it with "
                f"`git annex get {path.name}` or `datalad get {path.name}`"
            )
        raise UserError(f"{path} is a link to {target}, which does not exist: fetch that file")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the weight file in it")
    if not path.is_file():
        raise UserError(f"there is no file {path}: correct its name")


def _is_safetensors(head: bytes) -> bool:
    """Tell by the length and the brace that such a file begins with."""
    return len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**32


def _require_torch_archive(path: Path) -> None:
    """Refuse a zip archive that is known not to be of ``torch.save``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, UnicodeDecodeError):
        return  # cut short or damaged: the reader reports it
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        raise UserError(
            f"{path} is a TorchScript program, which is not run: take the file of plain weights "
            "from its publisher"
        )
    if "data.pkl" not in ends:
        listed = ", ".join(names[:4]) or "nothing"
        raise UserError(
            f"{path} is an archive without weights of torch, it holds {listed}: unpack it and "
            "name the weight file"
        )


def _refuse_text(path: Path, head: bytes) -> None:
    """Refuse pointers, web pages and messages that took the place of weights."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(LFS):
        size = re.search(rb"^size (\d+)", text, re.MULTILINE)
        whole = f" of a file of {int(size[1])} bytes" if size else ""
        raise UserError(
            f"{path} is a pointer of Git LFS{whole}, not the weights: fetch them with "
            f"`git lfs pull --include {path.name}`, or from the page's download button"
        )
    if ANNEX.match(text):
        raise UserError(
            f"{path} is a pointer of git-annex, not the weights: fetch them with "
            f"`git annex get {path.name}` or `datalad get {path.name}`"
        )
    if re.match(rb"<(!doctype|html|\?xml|head|body|error|!--)", text, re.IGNORECASE):
        raise UserError(
            f"{path} is a web page{_title(text)}, not weights: its link leads to a page, or asks "
            "for a login; download the file itself again"
        )
    if head and _is_text(head):
        begin = " ".join(text[:80].decode("utf-8", "replace").split())
        raise UserError(
            f"{path} is a text, not weights; it begins '{begin}': download the file itself again"
        )


def _title(text: bytes) -> str:
    """Quote a page's title or an error's message."""
    found = re.search(rb"<(title|message)[^>]*>([^<]{1,200})", text, re.IGNORECASE)
    if not found:
        return ""
    words = " ".join(html.unescape(found[2].decode("utf-8", "replace")).split())
    return f" ('{words[:80]}')" if words else ""


def _is_text(head: bytes) -> bool:
    """Tell text from pickles: printable characters only, and several of them."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as problem:
        if problem.start < len(head) - 4:
            return False
        text = head[: problem.start].decode("utf-8")
    return all(c.isprintable() or c in "\r\n\t" for c in text) and len(text.strip()) > 3
