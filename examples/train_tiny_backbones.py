"""Train the embedded backbones of profile ``tiny`` from nothing, on the synthetic dataset.

    neuroclips demo --seed 1
    python examples/train_tiny_backbones.py --subject neuroclips-demo/runs/sub-01

The films are drawn from seeds of their own: no scene of a simulated data set, of the demo or
of the held-out films that the backbones are scored on is ever among them. Each part can be
trained by itself (``--only``), in the order below, because later parts read earlier ones. The
denoiser of tokens learns from the errors of ``--subject``: of its scans and training films alone.
``--minutes`` are for all parts together, from the start of the script; each gets its share of
what is left. A run that was ended continues with ``--resume``.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tiny_backbones import (
    captioner,
    classifiers,
    clip,
    denoiser,
    latents,
    perceptual,
    scores,
    unclip,
    vae,
    video,
)
from tiny_backbones.clock import Budget, Clock
from tiny_backbones.covered import SCENES, CoveredFilms, load_covered
from tiny_backbones.decoded import of_subject
from tiny_backbones.files import save_half
from tiny_backbones.films import Pool, load_pool
from tiny_backbones.loop import read_facts

SHARES = {
    "vae": 25.0,
    "clip": 30.0,
    "vae-decoder": 15.0,
    "perceptual": 10.0,
    "unclip": 50.0,
    "captioner": 20.0,
    "image": 20.0,
    "video": 30.0,
    "text-to-video": 120.0,
    "token-denoiser": 1.0,
}
BATCHES = {
    "cpu": {
        "vae": 16,
        "clip": 128,
        "vae-decoder": 16,
        "perceptual": 64,
        "unclip": 64,
        "captioner": 64,
        "image": 32,
        "video": 16,
        "text-to-video": 8,
        "token-denoiser": 256,
    },
    "cuda": {
        "vae": 256,
        "clip": 512,
        "vae-decoder": 256,
        "perceptual": 512,
        "unclip": 512,
        "captioner": 256,
        "image": 256,
        "video": 128,
        "text-to-video": 64,
        "token-denoiser": 512,
    },
}
NEED_THE_EYE = {"unclip", "text-to-video"}
NEED_LATENTS = {"perceptual", "token-denoiser", *NEED_THE_EYE}
LATENT_CLIPS, HELD_OUT_CLIPS = 16000, 512


def main() -> None:
    """Train what is asked for, then print and write the table of scores."""
    options = _options()
    wanted = options.only or [*SHARES, "scores"]
    parts = [name for name in SHARES if name in wanted]
    if NEED_THE_EYE & set(parts) and "perceptual" not in parts:
        parts = [name for name in SHARES if name in {*parts, "perceptual"}]
    budget = Budget(
        options.minutes,
        {name: SHARES[name] for name in parts},
        options.every,
        not options.no_graphs,
    )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    # Before the first use of the GPU: processes that share one cannot be forked.
    device = torch.device(options.device)
    pool = load_pool(options.cache, "train", options.clips, 1, device)
    held_out = load_pool(options.cache, "held-out", HELD_OUT_CLIPS, 2, device)
    covered = {name: load_covered(options.cache, name, device) for name in parts if name in SCENES}
    training = Training(pool, covered, budget, options)
    for name in parts:
        began = time.monotonic()
        training.run(name)
        print(f"{name}: done after {time.monotonic() - began:.0f} s", flush=True)
    if "scores" in wanted:
        count = 64 if options.device == "cpu" else 256
        generated_only = options.only is not None
        table = scores.table(held_out, options.out, count, options.device, generated_only)
        (options.out / "SCORES.md").write_text(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("neuroclips_cli/assets/tiny"))
    parser.add_argument("--cache", type=Path, default=Path("build/tiny-backbones"))
    parser.add_argument("--only", choices=[*SHARES, "scores"], nargs="*")
    parser.add_argument("--minutes", type=float, default=600.0, help="for all parts together")
    parser.add_argument("--device", choices=list(BATCHES), default="cpu")
    parser.add_argument("--clips", type=int, default=6000, help="training clips to render")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between checkpoints")
    parser.add_argument("--no-graphs", action="store_true", help="no CUDA graphs")
    parser.add_argument("--resume", action="store_true", help="go on where a run was ended")
    parser.add_argument(
        "--subject", type=Path, help="run folder of a subject of a simulated data set, preprocessed"
    )
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="start from the weights in --out"
    )
    options = parser.parse_args()
    wanted = set(options.only or SHARES)
    if wanted & {"image", "video"} and not hasattr(torch.optim, "Muon"):
        parser.error(
            f"the evaluators are trained by Muon, which torch {torch.__version__} does not have: "
            "install torch 2.9 or later, or leave image and video out of --only"
        )
    if "token-denoiser" in wanted and options.subject is None:
        parser.error(
            "token-denoiser learns from the errors that a subject's scans make of its training "
            "films: name one with --subject, such as neuroclips-demo/runs/sub-01"
        )
    return options


class Training:
    """The parts, each trained with what the earlier ones left in the folder.

    Parameters
    ----------
    pool : Pool
        Training films.
    covered : dict of str to CoveredFilms
        Those of the evaluators, by part.
    budget : Budget
        Deals out the minutes.
    options : argparse.Namespace
        The command line.
    """

    def __init__(
        self,
        pool: Pool,
        covered: dict[str, CoveredFilms],
        budget: Budget,
        options: argparse.Namespace,
    ) -> None:
        self.pool, self.covered, self.budget, self.options = pool, covered, budget, options
        self.out: Path = options.out
        self.states: Path = options.cache / "state"
        if not options.resume:
            shutil.rmtree(self.states, ignore_errors=True)
        self.batches = BATCHES[options.device]

    def run(self, name: str) -> None:
        """Train a part, unless an ended run has finished it."""
        if name in NEED_LATENTS:
            _ = self.latents
        clock, state = self.budget.clock(name), self.states / f"{name}.safetensors"
        if name != "perceptual" and state.exists() and _finished(state):
            return
        todo: dict[str, Callable[[Clock, Path], object]] = {
            "vae": self._vae,
            "clip": self._clip,
            "vae-decoder": self._vae_decoder,
            "perceptual": self._eye,
            "unclip": self._unclip,
            "captioner": self._captioner,
            "image": self._image,
            "video": self._video,
            "text-to-video": self._text_to_video,
            "token-denoiser": self._token_denoiser,
        }
        todo[name](clock, state)

    @functools.cached_property
    def latents(self) -> latents.Latents:
        """Latents and tokens of the training films."""
        return latents.compute(self.pool, self.out, min(len(self.pool.frames), LATENT_CLIPS))

    def _vae(self, clock: Clock, state: Path) -> None:
        start = AutoencoderKL.from_pretrained(self.out / "vae") if self.options.go_on else None
        made = vae.train(self.pool, clock, state, self.batches["vae"], start=start)
        save_half(made, self.out / "vae")

    def _clip(self, clock: Clock, state: Path) -> None:
        clip.train(
            self.pool, self.out, clock, state, self.batches["clip"], go_on=self.options.go_on
        )

    def _vae_decoder(self, clock: Clock, state: Path) -> None:
        batch = self.batches["vae-decoder"]
        vae.train_decoder(self.pool, self.out, clock, state, batch)

    def _eye(self, clock: Clock, state: Path) -> None:
        self.eye = perceptual.train(self.latents, clock, state, self.batches["perceptual"])

    def _unclip(self, clock: Clock, state: Path) -> None:
        start = None
        if self.options.go_on:
            start = UNet2DConditionModel.from_pretrained(
                self.out / "unclip", torch_dtype=torch.float32
            )
        unclip.train(
            self.latents,
            self.eye,
            self.out / "unclip",
            clock,
            state,
            self.batches["unclip"],
            start=start,
        )

    def _captioner(self, clock: Clock, state: Path) -> None:
        captioner.train(
            self.pool,
            self.out / "captioner",
            self.out / "clip",
            clock,
            state,
            self.batches["captioner"],
            go_on=self.options.go_on,
        )

    def _image(self, clock: Clock, state: Path) -> None:
        folder, batch = self.out / "image_classifier", self.batches["image"]
        go_on = self.options.go_on
        classifiers.train_image(self.covered["image"], folder, clock, state, batch, go_on=go_on)

    def _video(self, clock: Clock, state: Path) -> None:
        folder, batch = self.out / "video_classifier", self.batches["video"]
        frames = self.out / "image_classifier"
        go_on = self.options.go_on
        classifiers.train_video(
            self.covered["video"], folder, frames, clock, state, batch, go_on=go_on
        )

    def _text_to_video(self, clock: Clock, state: Path) -> None:
        video.train(
            self.latents,
            self.eye,
            self.out,
            clock,
            state,
            self.batches["text-to-video"],
            go_on=self.options.go_on,
        )

    def _token_denoiser(self, clock: Clock, state: Path) -> None:
        decoded = of_subject(self.options.subject, self.out, self.pool.device)
        folder, batch = self.out / "token_denoiser", self.batches["token-denoiser"]
        denoiser.train(self.latents, decoded, folder, clock, state, batch)


def _finished(state: Path) -> bool:
    facts = read_facts(state)
    return float(facts["spent"]) >= float(facts["seconds"])


if __name__ == "__main__":
    main()
