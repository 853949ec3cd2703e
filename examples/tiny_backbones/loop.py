"""One loop for every backbone: AdamW, one cycle in time, an exponential average of the weights.

Matrices may be trained by Muon instead, which needs far fewer steps for the evaluators' blocks.

On CUDA a whole step (drawing the batch, both passes, the update and the average) is captured
once and replayed as a graph: networks this small spend most of their time in launches
otherwise. Nothing is read back but the loss, now and then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .clock import Clock

WARM_UP, FLOOR = 0.1, 0.01
STEPS_BEFORE_CAPTURE = 5
MUON_RATE = 10.0
"""Muon's learning rate as a multiple of AdamW's."""
MOMENTS = (("step", "exp_avg", "exp_avg_sq"), ("momentum_buffer",))
"""What AdamW and Muon keep of each parameter."""


class Averages:
    """Exponential average of parameters that forgets its beginning quickly."""

    def __init__(self, parameters: list[nn.Parameter], keep: float) -> None:
        self.parameters, self.keep = parameters, keep
        self.values = [p.detach().clone() for p in parameters]
        self.factor = torch.zeros((), device=parameters[0].device)

    def at_step(self, step: int) -> None:
        """Set how much of the average the next update keeps."""
        self.factor.fill_(min(self.keep, (1 + step) / (10 + step)))

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters of now into the average."""
        torch._foreach_mul_(self.values, self.factor)
        torch._foreach_add_(self.values, torch._foreach_mul(self.parameters, 1 - self.factor))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange parameters and averages."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            now = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(now)


def learning_rate_at(progress: float, peak: float) -> float:
    """Return the learning rate at a share of the time: up for a tenth, then down as a cosine."""
    if progress < WARM_UP:
        return peak * (0.04 + 0.96 * progress / WARM_UP)
    falling = (progress - WARM_UP) / (1 - WARM_UP)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(falling, 1.0))))


class Trainer:
    """One network with its optimizer and average.

    Parameters
    ----------
    model : torch.nn.Module
        Trained in place; parameters with ``requires_grad=False`` stay as they are.
    loss_of : callable
        Draws a batch and returns a scalar loss.
    weight_decay, average : float
        Of AdamW; share of the average that an update keeps.
    graph : bool
        Replay the step as a CUDA graph: ``loss_of`` must read nothing back from the device.
    matrices : sequence of torch.nn.Parameter
        Those of two dimensions that Muon trains; not with ``graph``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_of: Callable[[], Tensor],
        *,
        weight_decay: float,
        average: float,
        graph: bool,
        matrices: Sequence[nn.Parameter] = (),
    ) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.names, self.parameters = [n for n, _ in named], [p for _, p in named]
        self.loss_of = loss_of
        self.device = self.parameters[0].device
        on_gpu = self.device.type == "cuda"
        self.rate: float | Tensor = torch.zeros((), device=self.device) if on_gpu else 0.0
        by_muon = {id(matrix) for matrix in matrices}
        adam = torch.optim.AdamW(
            [p for p in self.parameters if id(p) not in by_muon],
            lr=self.rate,
            weight_decay=weight_decay,
            fused=on_gpu,
            capturable=on_gpu,
        )
        self.optimizers: list[torch.optim.Optimizer] = [adam]
        if matrices:
            self.optimizers.append(torch.optim.Muon(matrices, lr=0.0, weight_decay=weight_decay))
        self.averages = Averages(self.parameters, average)
        self.loss = torch.zeros((), device=self.device)
        self.wants_graph = graph and on_gpu
        self.graph: torch.cuda.CUDAGraph | None = None
        self.step = 0

    def advance(self, rate: float) -> None:
        """Do one step at a learning rate."""
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            self.optimizers[0].param_groups[0]["lr"] = rate
        for muon in self.optimizers[1:]:
            muon.param_groups[0]["lr"] = MUON_RATE * rate
        self.averages.at_step(self.step)
        if self.graph is not None:
            self.graph.replay()
        elif self.wants_graph and self.step >= STEPS_BEFORE_CAPTURE:
            self._capture()
        elif self.wants_graph:
            # A capture needs its warm-up on a stream that is not the default one.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._whole_step()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            self._whole_step()
        self.step += 1

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        self._zero_grad()
        try:
            with torch.cuda.graph(graph):
                self._whole_step(clear=False)
        except RuntimeError as error:
            print(f"no CUDA graph, steps are launched one by one: {error}", flush=True)
            self.wants_graph = False
            self._zero_grad()
            self._whole_step()
            return
        self.graph = graph
        graph.replay()

    def _zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _whole_step(self, clear: bool = True) -> None:
        with torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.device.type == "cuda",
            cache_enabled=False,
        ):
            loss = self.loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        if clear:
            self._zero_grad()
        self.averages.update()
        self.loss.lerp_(loss.detach().float(), 0.02 if self.step else 1.0)

    def save(self, file: Path, clock: Clock) -> None:
        """Write everything that going on needs: weights, averages, moments and the clock."""
        tensors = {}
        for name, parameter, value in zip(
            self.names, self.parameters, self.averages.values, strict=True
        ):
            tensors[f"raw.{name}"] = parameter.detach().contiguous()
            tensors[f"average.{name}"] = value.contiguous()
            for optimizer in self.optimizers:
                for kind, moment in optimizer.state.get(parameter, {}).items():
                    tensors[f"{kind}.{name}"] = torch.as_tensor(moment).contiguous()
        facts = {"spent": str(clock.elapsed()), "seconds": str(clock.seconds)}
        facts["loss"] = str(self.loss.item())
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.part")
        save_file(tensors, partial, metadata={**facts, "step": str(self.step)})
        partial.replace(file)

    @torch.no_grad()
    def load(self, file: Path, clock: Clock) -> None:
        """Take up what :meth:`save` wrote, the clock's budget included."""
        tensors = load_file(file, device=str(self.device))
        for name, parameter, value in zip(
            self.names, self.parameters, self.averages.values, strict=True
        ):
            parameter.copy_(tensors[f"raw.{name}"])
            value.copy_(tensors[f"average.{name}"])
            for optimizer, kinds in zip(self.optimizers, MOMENTS, strict=False):
                if f"{kinds[0]}.{name}" in tensors:
                    optimizer.state[parameter] = {k: tensors[f"{k}.{name}"] for k in kinds}
        facts = read_facts(file)
        clock.spent, clock.seconds = float(facts["spent"]), float(facts["seconds"])
        self.step = int(facts["step"])
        self.loss.fill_(float(facts["loss"]))


def read_facts(file: Path) -> dict[str, str]:
    """Return the facts (``spent`` and ``seconds``, ``step``) of a state file."""
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


def fit(
    name: str,
    model: nn.Module,
    loss_of: Callable[[], Tensor],
    clock: Clock,
    *,
    learning_rate: float,
    state: Path | None = None,
    write: Callable[[], object] | None = None,
    weight_decay: float = 0.01,
    average: float = 0.995,
    graph: bool = True,
    matrices: Sequence[nn.Parameter] = (),
) -> nn.Module:
    """Train a model until its clock has run down and leave the averaged weights in it.

    Parameters
    ----------
    name : str
        Shown in the log.
    model, loss_of, weight_decay, average, graph, matrices
        As in :class:`Trainer`.
    clock : Clock
        The part's seconds; the learning rate follows them.
    learning_rate : float
        Peak of the cycle.
    state : Path, optional
        File to continue from where it exists, written every so many seconds.
    write : callable, optional
        Writes the weights in their final form; called with the averages in the model.

    Raises
    ------
    FloatingPointError
        If the loss is not a number any more.
    """
    model.train()
    trainer = Trainer(
        model,
        loss_of,
        weight_decay=weight_decay,
        average=average,
        graph=graph and clock.graphs,
        matrices=matrices,
    )
    if state is not None and state.exists():
        trainer.load(state, clock)
    began = trainer.step
    between = 25 if trainer.device.type == "cuda" else 1
    for told in _ticks(clock):
        while clock.progress() < 1 and clock.elapsed() < told:
            for _ in range(between):
                trainer.advance(learning_rate_at(clock.progress(), learning_rate))
            loss = trainer.loss.item()
            if not math.isfinite(loss):
                raise FloatingPointError(f"{name}: the loss is {loss} at step {trainer.step}")
            _tell(name, clock, trainer, began)
        if state is not None:
            trainer.save(state, clock)
        if write is not None and clock.progress() < 1:
            trainer.averages.swap()
            write()
            trainer.averages.swap()
    trainer.averages.swap()
    return model.eval()


def _ticks(clock: Clock) -> Iterator[float]:
    """Yield the moments of checkpoints, in seconds of the clock; the last lies after its end."""
    while clock.progress() < 1:
        yield clock.elapsed() + clock.every


class _Line:
    """The last time that a progress line was printed."""

    last = 0.0


def _tell(name: str, clock: Clock, trainer: Trainer, began: int) -> None:
    now = time.monotonic()
    if now - _Line.last < 10 and clock.progress() < 1:
        return
    _Line.last = now
    pace = (now - clock.began) / max(1, trainer.step - began)
    print(
        f"{name}: {clock.elapsed():.0f}/{clock.seconds:.0f} s, step {trainer.step}, "
        f"loss {trainer.loss.item():.4f}, {1e3 * pace:.1f} ms/step",
        flush=True,
    )
