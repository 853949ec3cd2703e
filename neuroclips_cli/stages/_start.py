"""Where a training's weights begin: at random, at a published checkpoint, at a parent decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.safetensors import read_tensors
from neuroclips_cli.models.checkpoint import is_shared
from neuroclips_cli.runs import model_card
from neuroclips_cli.runs.model_card import Parent
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages._adaptation import WEIGHTS, Adaptation, parent_entry
from neuroclips_cli.stages._released_weights import load_pretrained_weights
from neuroclips_cli.training.freezing import freeze, parts


@dataclass(frozen=True)
class Start:
    """The beginning of one training.

    Attributes
    ----------
    stage : str
        ``train-pr`` or ``train-sr``.
    checkpoint : Path or None
        Published weights, all of which learn.
    adaptation : Adaptation or None
        A parent, and what of it learns.
    """

    stage: str
    checkpoint: Path | None = None
    adaptation: Adaptation | None = None

    @property
    def has_parent(self) -> bool:
        """Whether the layers that subjects share come from a parent of an adaptation."""
        return self.adaptation is not None and self.adaptation.parent is not None

    def begin(self, model: nn.Module, settings: Settings) -> Parent | None:
        """Put the first weights into the network; return what the card says of them."""
        self._say(model)
        if self.checkpoint is not None:
            load_pretrained_weights(model, self.checkpoint, settings)
            return parent_entry(self.checkpoint, None)
        path = self.adaptation.parent_of(self.stage) if self.adaptation else None
        if path is None:
            return None
        if path.is_file():
            load_pretrained_weights(model, path, settings, ridge=False)
            return parent_entry(path, None)
        load_shared(model, path)
        return parent_entry(path, model_card.read(path))

    def freeze(self, model: nn.Module) -> None:
        """Freeze what the adaptation's mode does not train."""
        if self.adaptation is not None:
            freeze(model, self.adaptation.mode)

    def _say(self, model: nn.Module) -> None:
        if self.adaptation is None:
            return
        trained, frozen = parts(model, self.adaptation.mode)
        left = ", ".join(frozen) or "nothing"
        console.info(f"{self.stage} trains {', '.join(trained)}; frozen: {left}")


def load_shared(model: nn.Module, folder: Path) -> None:
    """Put what all subjects share of a parent's stage folder into a new subject's network.

    Its first layers stay as they are; shared layers of other shapes are refused.
    """
    weights = {n: tensor for n, tensor in read_tensors(folder / WEIGHTS).items() if is_shared(n)}
    wanted = {name: values for name, values in model.state_dict().items() if is_shared(name)}
    for name in dict.fromkeys([*wanted, *weights]):
        found, own = weights.get(name), wanted.get(name)
        if found is None or own is None or found.shape != own.shape:
            raise UserError(
                f"{folder} does not fit: '{name}' is not the same in both networks; take the "
                "settings of the parent, or another parent"
            )
    model.load_state_dict(weights, strict=False)
