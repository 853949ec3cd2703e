"""The weights by name out of what a trainer saved around them.

Trainers put weights beside their own records (``state_dict``, ``module``, ``model`` ...), keep an
averaged copy next to them, and prefix the names with what wrapped the network (``module.``,
``_orig_mod.``, ``_fsdp_wrapped_module.`` ...). What is not known is refused with a list of what the
file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "network",
    "network_state_dict",
    "net",
    "net_state_dict",
    "weights",
    "params",
    "controlnet",
)
"""Under which names trainers keep the weights."""

AVERAGED = (
    "ema",
    "model_ema",
    "ema_model",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema_state_dict",
    "ema_model_state_dict",
    "params_ema",
    "net_ema",
    "ema_net",
    "ema_weights",
    "averaged_model",
    "swa_model",
    "model_swa",
    "swa_state_dict",
)
"""Under which names they keep the weights averaged over training steps."""

WRAPPERS = (
    "_orig_mod",  # torch.compile
    "module",  # DataParallel, DistributedDataParallel, DeepSpeed, AveragedModel
    "_fsdp_wrapped_module",  # FullyShardedDataParallel
    "_fpw_module",  # FairScale's and early FSDP
    "_checkpoint_wrapped_module",  # activation checkpointing
    "_forward_module",  # Lightning Fabric
)
"""Parts of a name that are the wrapper's."""

SHARDS = ("DTensor", "ShardedTensor", "_flat_param")
EMA_PREFIX, RAW_PREFIX = "model_ema.", "model."
"""How Stability's code keeps an average inside one table: the raw name without its dots."""

DEPTH = 6
"""Deeper than any trainer nests."""


@dataclass(frozen=True)
class Found:
    """Weights by name, and where in the file they were.

    Attributes
    ----------
    weights : dict
        Names without wrappers to tensors.
    entry : str
        Keys that lead to them, joined by dots; empty at the top.
    averaged : bool
        Whether these are averages over training steps, taken instead of the raw weights.
    notes : dict
        Words that the file's top level holds beside the weights, such as ``token_space``.
    """

    weights: dict[str, Tensor]
    entry: str = ""
    averaged: bool = False
    notes: dict[str, str] = field(default_factory=dict)


def unwrap(content: Any, source: str, entry: str = "") -> Found:
    """Find the weights in what was saved, averaged ones where they lie beside the raw ones.

    ``entry`` gives the keys, joined by dots, for a file whose wrapping is unknown. Refused: no
    weights, more than one network, a shard of a network, and a wrapping that is not known; the
    message lists what the file holds.
    """
    found = _named(content, source, entry) if entry else _search(content, source, (), 0)
    if found is None:
        raise UserError(_nothing(content, source))
    table, path, averaged = found
    weights = without_wrappers(_tensors(table, source), source)
    if not averaged:
        weights, averaged = _own_average(weights)
    top = content if isinstance(content, Mapping) else {}
    notes = {str(key): value for key, value in top.items() if isinstance(value, str)}
    return Found(weights, ".".join(path), averaged, notes)


_Place = tuple[Mapping[str, Any], tuple[str, ...], bool]


def _search(content: Any, source: str, path: tuple[str, ...], depth: int) -> _Place | None:
    """Follow known entries down to the innermost table of tensors."""
    table = _as_table(content)
    if table is None or depth > DEPTH:
        return None
    for names, averaged in ((AVERAGED, True), (ENTRIES, False)):
        inner = {}
        for name in names:
            if name in table:
                found = _search(table[name], source, (*path, name), depth + 1)
                if found is not None:
                    inner[name] = found
        if averaged and len(inner) == 1:
            place = next(iter(inner.values()))
            return place[0], place[1], True
        if inner:
            return _only(inner, source, averaged)
    return (table, path, False) if _holds_weights(table) else None


def _only(inner: Mapping[str, _Place], source: str, averaged: bool) -> _Place:
    """Return the one place, or the first of places with the same weights."""
    first, *others = inner.values()
    for other in others:
        if not _same(_tensors(first[0], source), _tensors(other[0], source)):
            names = ", ".join(f"'{'.'.join(place[1])}'" for place in inner.values())
            raise UserError(
                f"{source} holds more than one set of weights, under {names}: say which is meant "
                f"with --entry {'.'.join(first[1])}"
            )
    return first[0], first[1], first[2] or averaged


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].shape == second[name].shape and bool((first[name] == second[name]).all())
        for name in first
    )


def _named(content: Any, source: str, entry: str) -> _Place:
    """Follow the user's keys."""
    path: tuple[str, ...] = ()
    for key in entry.split("."):
        inside = _as_table(content) or {}
        if key not in inside:
            raise UserError(
                f"{source} holds no '{'.'.join((*path, key))}': it has {listing(content)}"
            )
        content, path = inside[key], (*path, key)
    table = _as_table(content)
    if table is None or not _holds_weights(table):
        raise UserError(
            f"'{entry}' of {source} holds no tensors by name: it has {listing(content)}"
        )
    return table, path, False


def _as_table(content: Any) -> Mapping[str, Any] | None:
    """Return what has entries by name: a mapping, or a whole network that was pickled."""
    modules = getattr(content, "modules", None)
    if not isinstance(content, Mapping) and callable(modules) and hasattr(content, "origin"):
        table = dict(modules())
        state = content.state
        return table or (state if isinstance(state, Mapping) else None)
    return content if isinstance(content, Mapping) else None


def _holds_weights(table: Mapping[str, Any]) -> bool:
    """Tell a table of weights from records: it has tensors, and not in tables of unknown name."""
    tensors = [v for v in table.values() if _is_tensor(v)]
    if not any(_is_tensor(v) and v.ndim for v in table.values()):
        # Only numbers: records of a training, or a network of scalars alone.
        return bool(tensors) and not any(_as_table(v) is not None for v in table.values())
    return True


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _tensors(table: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Return the tensors of a table, and refuse a piece of a sharded network."""
    for name, value in table.items():
        kind = getattr(value, "origin", "")
        if any(mark in kind or str(name).endswith(mark) for mark in SHARDS):
            raise UserError(
                f"{source} is one process's shard of a network ('{name}' is a piece): gather it "
                "first, with torch.distributed.checkpoint.format_utils or your trainer's own tool"
            )
    state = {str(k): v for k, v in table.items() if _is_tensor(v)}
    if state and not any(v.numel() for v in state.values()):
        raise UserError(
            f"{source} holds the names of a sharded network whose tensors are empty: gather it "
            "first, with DeepSpeed's zero_to_fp32.py"
        )
    return state


def without_wrappers(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Take wrappers' parts off the names, in any order and at any place.

    Raises
    ------
    UserError
        If two tensors would have one name.
    """
    counted = "n_averaged" in weights and any(n.startswith("module.") for n in weights)
    bare: dict[str, Tensor] = {}
    for name, value in weights.items():
        if counted and name == "n_averaged":
            continue
        inner = ".".join(part for part in name.split(".") if part not in WRAPPERS) or name
        if inner in bare:
            raise UserError(
                f"{source} holds '{inner}' twice, once as '{name}': take the file of one network"
            )
        bare[inner] = value
    return bare


def _own_average(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Put Stability's averages, kept in the same table, in the place of the raw weights."""
    averages = {n: v for n, v in weights.items() if n.startswith(EMA_PREFIX)}
    if not averages:
        return weights, False
    kept = {n: v for n, v in weights.items() if n not in averages}
    taken = False
    for name in kept:
        flat = EMA_PREFIX + name.removeprefix(RAW_PREFIX).replace(".", "")
        if name.startswith(RAW_PREFIX) and flat in averages:
            kept[name], taken = averages[flat], True
    return kept, taken


def from_common_prefix(
    weights: Mapping[str, Tensor], recognized: Callable[[Mapping[str, Tensor]], bool]
) -> Mapping[str, Tensor]:
    """Take off the first part of all names until the network is recognized.

    A module that holds the network under an attribute gives such names, for example
    ``clipproj.proj``. Weights that are not recognized in any depth come back as they were.
    """
    inner: Mapping[str, Tensor] = weights
    while inner and not recognized(inner):
        starts = {name.partition(".")[0] for name in inner}
        if len(starts) != 1 or not all("." in name for name in inner):
            return weights
        inner = {name.partition(".")[2]: value for name, value in inner.items()}
    return inner or weights


def listing(content: Any, most: int = 8) -> str:
    """Name the entries of a file and what each is, for messages."""
    table = _as_table(content)
    if table is None:
        return f"one {_what(content)}"
    parts = [f"'{str(key)[:40]}' ({_what(value)})" for key, value in list(table.items())[:most]]
    more = len(table) - len(parts)
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "") or "no entries"


def _what(value: Any) -> str:
    if _is_tensor(value):
        return f"tensor {tuple(value.shape)}"
    table = _as_table(value)
    if table is not None:
        inside = sum(1 for _ in _inside(table))
        return f"{len(table)} entries, {inside} tensors" if inside else f"{len(table)} entries"
    origin = getattr(value, "origin", "")
    return origin or type(value).__name__


def _inside(table: Mapping[str, Any], depth: int = 0) -> Iterator[Any]:
    for value in table.values():
        inner = _as_table(value)
        if _is_tensor(value):
            yield value
        elif inner is not None and depth < DEPTH:
            yield from _inside(inner, depth + 1)


def _nothing(content: Any, source: str) -> str:
    table = _as_table(content)
    held = listing(content)
    first = f"{source} holds no tensors by name where trainers keep weights: it has {held}"
    for key, value in (table or {}).items():
        inner = _as_table(value)
        if inner is not None and next(_inside(inner), None) is not None:
            return f"{first}; if one of them is the network, name it with --entry {key}"
    return f"{first}; check which file it is"
