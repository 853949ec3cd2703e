"""Find a backbone's folder or hub id and load it, without running foreign code."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.catalog import FILES
from neuroclips_cli.backbones.hub_cache import cached_snapshot
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import tree_digest

if TYPE_CHECKING:
    import torch

    from neuroclips_cli.settings.schema import BackboneSettings

ASSETS = "assets:"


def resolve(ref: str) -> str:
    """Turn a backbone reference into what a library's loader takes.

    Parameters
    ----------
    ref : str
        ``assets:tiny/vae`` (embedded in this package), a folder, or a hub id, which may name a
        commit: ``owner/name@0123abc``.

    Returns
    -------
    str
        An existing folder: of a hub id the snapshot of the pinned commit in the hub's cache; or
        the hub id as it is where it is not on this machine.

    Raises
    ------
    UserError
        If an embedded backbone or a folder written as a path does not exist.
    """
    if not ref:
        raise UserError(
            "a backbone has no value in [backbones]: name a hub id, a folder or assets:<name>, "
            "or take a profile with 'neuroclips init --profile tiny'."
        )
    if ref.startswith(ASSETS):
        folder = Path(str(files("neuroclips_cli"))) / "assets" / ref[len(ASSETS) :]
        if not folder.is_dir():
            raise UserError(
                f"the embedded backbone '{ref}' is not in this installation ({folder}): "
                "install neuroclips again, or name another model in [backbones]."
            )
        return str(folder)
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.is_absolute() or ref.startswith((".", "~")) or ref.count("/") > 1:
        raise UserError(
            f"the backbone folder '{ref}' does not exist: correct it in [backbones] of "
            "neuroclips.toml."
        )
    snapshot = cached_snapshot(*_revision(ref))
    return str(snapshot) if snapshot else ref


def _revision(ref: str) -> tuple[str, str]:
    """Split ``owner/name@commit`` into the repository and the commit, empty where none is named."""
    repository, _, revision = ref.partition("@")
    return repository, revision


def hub_parts(ref: str) -> tuple[str, str, str]:
    """Split ``owner/name@commit:subfolder`` into its three parts, without looking for it."""
    source, _, subfolder = ref.partition(":")
    return *_revision(source), subfolder


def revisions(backbones: BackboneSettings) -> dict[str, str]:
    """Return the commit in use of every backbone that is from the hub."""
    found = {}
    for name in FILES:
        reference = getattr(backbones, name, "")  # judges are no backbones of a run
        try:
            digest = tree_digest(Path(resolve(reference.partition(":")[0])))
        except (UserError, FileNotFoundError):
            continue
        if digest.startswith("hub:"):
            found[name] = digest.removeprefix("hub:")
    return found


def locate(ref: str) -> tuple[str, str]:
    """Split ``owner/name:subfolder`` into the hub id and the subfolder inside it.

    Parameters
    ----------
    ref : str
        Any reference that :func:`resolve` takes, or a hub id with ``:subfolder``.

    Returns
    -------
    source, subfolder : str
        ``subfolder`` is empty where none is given.
    """
    if ref.startswith(ASSETS) or Path(ref).expanduser().is_dir() or ":" not in ref:
        return resolve(ref), ""
    source, _, subfolder = ref.partition(":")
    return resolve(source), subfolder


def choose_device(name: str) -> str:
    """Return the torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises
    ------
    UserError
        If the named device is not there.
    """
    import torch

    mps = torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if (name.startswith("cuda") and not torch.cuda.is_available()) or (name == "mps" and not mps):
        raise UserError(f"device '{name}' is not available here: use --device auto or cpu.")
    return name


def load_pretrained(kind: Any, ref: str, **options: Any) -> Any:
    """Call ``kind.from_pretrained`` and turn a missing model into one sentence.

    Parameters
    ----------
    kind : type
        A diffusers or transformers class.
    ref : str
        See :func:`locate`.
    **options
        Passed on.

    Returns
    -------
    object
        What ``from_pretrained`` gives.

    Raises
    ------
    UserError
        If the files are neither local nor to be had from the hub.
    """
    source, subfolder = locate(ref)
    require_here(source, ref)
    if subfolder:
        options["subfolder"] = subfolder
    quiet_libraries()
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError) as problem:
        raise unavailable(ref, problem) from problem


def load_network(
    kind: Any,
    ref: str,
    device: str,
    *,
    precision: str = "float32",
    methods: Sequence[str] = ("forward",),
    **options: Any,
) -> torch.nn.Module:
    """Load a frozen diffusers or transformers network from safetensors, for inference.

    Parameters
    ----------
    kind : type
        The model class.
    ref : str
        See :func:`locate`.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``, see :func:`precision.compute_in`.
    methods : sequence of str
        By which the network is called.
    **options
        Passed on to ``from_pretrained``.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, without gradients; what it takes and gives is float32.
    """
    import torch

    from neuroclips_cli.runtime.precision import compute_in

    word = "torch_dtype" if kind.__module__.startswith("diffusers") else "dtype"
    network = load_pretrained(kind, ref, use_safetensors=True, **{word: torch.float32}, **options)
    return compute_in(precision, freeze(network, device), methods)


def freeze(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """Move a network to the device in float32, in evaluation mode, without gradients."""
    import torch

    return network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Store convolution weights channels-last, which is about 3 times faster on small images."""
    import torch

    return network.to(memory_format=torch.channels_last)


def quiet_libraries() -> None:
    """Silence the loading bars and advice of transformers and diffusers; errors stay."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def require_here(source: str, ref: str) -> None:
    """Refuse a hub id that is not on this machine: only ``models pull`` fetches, and checks.

    Raises
    ------
    UserError
        If ``source``, from :func:`resolve`, is no folder.
    """
    if not Path(source).is_dir():
        raise UserError(
            f"the backbone '{ref}' is not on this machine: fetch it with 'neuroclips models pull' "
            "while online, or name a local folder in [backbones] of neuroclips.toml."
        )


def unavailable(ref: str, problem: Exception) -> UserError:
    """Return the one sentence for a backbone that cannot be loaded."""
    first = str(problem).strip().split("\n")[0]
    return UserError(
        f"cannot load the backbone '{ref}' ({type(problem).__name__}: {first[:160]}): "
        "fetch it with 'neuroclips models pull' while online, or name a local folder in "
        "[backbones] of neuroclips.toml."
    )
