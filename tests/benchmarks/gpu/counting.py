"""Operations, bytes and memory of the cases at full size, on the meta device: no GPU is needed."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from neuroclips_cli.memory_estimate import live, training
from neuroclips_cli.memory_estimate.needs import inference, network_size
from neuroclips_cli.memory_estimate.training import train_perception, train_semantics
from tests.benchmarks.gpu.cases import CASES
from tests.benchmarks.gpu.results import COUNTS
from tests.benchmarks.gpu.work import VOXELS, Case, Place, Work

LEARNED_TRANSFERS = 10
"""Transfers of a learned weight in a step: read forward and backward, its gradient written and
read, weight and two moments of AdamW read and written."""


def count_all(names: list[str]) -> None:
    """Count the named cases (all: none named), print their floors and write the file."""
    torch.backends.mha.set_fastpath_enabled(False)
    place = Place("meta", "full")
    counted = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.is_file() else {}
    trained = training_memory(place)
    for case in CASES:
        if names and case.name not in names:
            continue
        found = count(case, place)
        if case.stage in trained:
            found["memory"] = trained[case.stage]
        counted[case.name] = found
        compute, move = floors(found)
        print(
            f"{case.name}, {found['items']} items: {found['operations'] / 1e12:.3f} TFLOP, "
            f"{found['bytes'] / 1e9:.2f} GB; floor {1e3 * max(compute, move):.2f} ms "
            f"({1e3 * compute:.2f} at 800 TFLOP/s, {1e3 * move:.2f} at 3 TB/s)",
            flush=True,
        )
    COUNTS.write_text(json.dumps(counted, indent=1) + "\n", encoding="utf-8")


def floors(found: dict[str, Any]) -> tuple[float, float]:
    """Seconds of a call at 800 TFLOP/s and at 3 TB/s."""
    return found["operations"] / 800e12, found["bytes"] / 3e12


def count(case: Case, place: Place) -> dict[str, Any]:
    """Return ``operations``, fewest ``bytes``, ``items`` and float32 ``memory`` of one call."""
    work = case.build(place)
    memory = {} if work.trained else {"float32": inference(work.networks, work.count)[0].peak}
    # Half of a batch is mixed on average, see ``dryrun.training``.
    with (
        FlopCounterMode(display=False) as counter,
        mock.patch.object(training, "UNMIXED", 0.5),
        live.MemoryTracker(),
    ):
        work.count()
    return {
        "items": work.items,
        "operations": float(counter.get_total_flops()),
        "bytes": float(fewest_bytes(work)),
        "memory": memory,
    }


def fewest_bytes(work: Work) -> int:
    """Bytes that a call cannot do without: weights and inputs once, in a step more often."""
    inputs = sum(tensor.nbytes for tensor in work.inputs)
    if not work.trained:
        return inputs + network_size(work.networks)[1]
    learned = [p for network in work.networks for p in network.parameters() if p.requires_grad]
    return inputs + LEARNED_TRANSFERS * sum(p.nbytes for p in learned)


def training_memory(place: Place) -> dict[str, dict[str, int]]:
    """Return the dry run's peak of every training phase, in float32 and under bfloat16."""
    settings, voxels = place.settings, VOXELS[place.size]
    side = settings.data.frame_size // 8
    found: dict[str, dict[str, int]] = {}
    for name, mixed in (("float32", False), ("bfloat16", True)):
        needs = [
            train_perception(settings, voxels, (4, side, side), device="cuda", mixed=mixed),
            *train_semantics(settings, voxels, device="cuda", mixed=mixed),
        ]
        for need in needs:
            found.setdefault(need.stage, {})[name] = need.peak
    return found
