"""The best weights are written beside the training: as they were, in order, failures told."""

from __future__ import annotations

import errno
import threading

import pytest
import torch

from neuroclips_cli.errors import UserError
from neuroclips_cli.training import checkpoints
from neuroclips_cli.training.checkpoints import CheckpointManager, TrainingState
from neuroclips_cli.training.optimizer import make_optimizer, make_schedule


@pytest.fixture
def gate(monkeypatch):
    """Hold every write back until it is set; ``order`` tells what was written."""
    opened, write = threading.Event(), checkpoints.save_file
    opened.order = []

    def held(tensors, path, **more):
        if "best" in path.name:
            assert opened.wait(10)
        opened.order.append(path.name.split(".")[1])
        write(tensors, path, **more)

    monkeypatch.setattr(checkpoints, "save_file", held)
    return opened


def test_weights_are_those_of_the_moment_however_late_they_are_written(tmp_path, gate):
    model, kept = torch.nn.Linear(3, 2), CheckpointManager(tmp_path, "p")
    then = model.weight.detach().clone()
    kept.save_best(model)  # returns, although nothing can be written yet
    assert not kept.best.exists()
    torch.nn.init.zeros_(model.weight)
    gate.set()
    kept.load_best(model)
    assert torch.equal(model.weight, then)


def test_a_state_that_names_the_best_epoch_is_written_after_its_weights(tmp_path, gate):
    model, kept = torch.nn.Linear(3, 2), CheckpointManager(tmp_path, "p")
    optimizer = make_optimizer(model, 1e-3, 0.0, 0.0)
    kept.save_best(model)
    threading.Timer(0.1, gate.set).start()
    schedule = make_schedule(optimizer, 1e-3, 2, 2)
    kept.save_last(model, optimizer, schedule, TrainingState(epoch=1, best_epoch=1))
    assert gate.order == ["p-best", "p-last"]


@pytest.mark.parametrize("next_call", ["save_best", "load_best", "wait"])
def test_a_failure_in_the_background_is_told_by_what_comes_next(tmp_path, monkeypatch, next_call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    model, kept = torch.nn.Linear(3, 2), CheckpointManager(tmp_path, "p")
    kept.save_best(model)
    with pytest.raises(UserError, match="p-best"):
        getattr(kept, next_call)(*([] if next_call == "wait" else [model]))
    assert not list(tmp_path.iterdir())
    kept.wait()  # told once
