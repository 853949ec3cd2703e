"""``neuroclips fuse``: neighboring clips of one scene become one clip of up to 6 s (paper 3.4)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.backbones.captioners import load_captioner_fn
from neuroclips_cli.backbones.classifiers import load_image_classifier
from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.data.clip_table import held_out_segments
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.fusion import build_chains, neighbors
from neuroclips_cli.generation.video_generator import VideoGenerator, write_videos
from neuroclips_cli.models.matcher import Matcher, draw_pairs, fit_matcher
from neuroclips_cli.runs import disk_usage, model_card
from neuroclips_cli.runs.resumable import map_rows
from neuroclips_cli.runs.stage import (
    Stage,
    read_array,
    read_csv,
    read_json,
)
from neuroclips_cli.runtime.offload import ModelOffloader
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages._training_data import require_training_films

NAME = "fuse"
HEADER = ("chain", "position", "clip", "replaced_keyframe", "match_probability", "frames")
PAIRS = 2000  # matching and different training pairs each


def run(settings: Settings, *, clips: str | None = None, overwrite: bool = False) -> Path:
    """Join reconstructed clips to chains.

    Parameters
    ----------
    settings : Settings
        ``[fuse]``, ``[reconstruct]`` and ``[backbones]`` decide the result.
    clips : str, optional
        Which of the reconstructed test clips, such as ``0:50``; all by default.
    overwrite : bool
        Start afresh.

    Raises
    ------
    UserError
        If ``reconstruct`` has not run, or made none of these clips.
    """
    request = _requests.fuse(settings, clips=clips)
    inputs = {name: Path(path) for name, path in request.inputs.items()}
    index = read_array(inputs["reconstruct"] / "index.npy")
    rows = _requests.rows_to_fuse(inputs["reconstruct"], clips)
    classifier = request.extra["image_classifier"]
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            stage.need_space(disk_usage.of_fuse(settings, len(rows)))
            _Fusion(settings, stage, inputs, rows, index[rows], classifier).run()
        return stage.folder


class _Fusion:
    """One fusion: matcher, chains, clips."""

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        inputs: dict[str, Path],
        rows: np.ndarray,
        numbers: np.ndarray,
        classifier: str,
    ) -> None:

        self.settings, self.stage, self.inputs = settings, stage, inputs
        self.rows, self.numbers = rows, [int(number) for number in numbers]
        self.device = choose_device(settings.run.device)
        self.offloader = ModelOffloader(self.device, settings.reconstruct.offload)
        self.clip = load_clip(
            settings.backbones.clip,
            self.device,
            choose_precision(settings.run.precision, self.device),
        ).in_space(settings.semantics.token_space)
        self.offloader.load(self.clip.model)
        self.table = read_csv(inputs["preprocess"] / "clips.csv")
        self.classifier = classifier

    def run(self) -> None:
        """Train the matcher, build the chains, generate and write them."""
        probability = self.match()
        test = {int(row["clip"]): row for row in self.table if row["split"] == "test"}
        near = neighbors(
            [test[number]["segment"] for number in self.numbers],
            [float(test[number]["onset_s"]) for number in self.numbers],
            self.settings.data.clip_s,
        )
        joined = near & (probability >= self.settings.fuse.threshold)
        chains = build_chains(joined, self.settings.fuse.max_scans)
        clips = self.generate(chains)
        self.write(chains, clips, probability)

    def match(self) -> np.ndarray:
        """Return the probability that each keyframe and the next show the same class."""
        matcher = self.train_matcher()
        keyframes = read_array(self.inputs["reconstruct"] / "keyframes.npy")[self.rows]
        embeddings = self.clip.image_embeddings(keyframes)
        return matcher.probability(embeddings[:-1], embeddings[1:])

    def train_matcher(self) -> Matcher:
        """Train the matcher on the training films' middle frames; keep weights and accuracy."""
        chosen = self.settings.fuse
        preprocess = self.inputs["preprocess"]
        require_training_films(preprocess, "the matcher has nothing to learn from")
        frames = read_array(preprocess / "frames_train.npy")
        train = [row for row in self.table if row["split"] == "train"]
        middle = np.asarray(frames[:, frames.shape[1] // 2])
        with console.progress("Matcher's keyframes", total=len(middle)) as advance:
            embeddings = self.clip.image_embeddings(middle, advance=advance)
        groups = self.groups(train, middle)
        held_out = held_out_segments(train) or self.settings.train_sr.validation_segments
        kept = {str(segment) for segment in held_out}
        out = np.array([row["segment"] in kept for row in train])
        rng = np.random.default_rng(self.settings.run.seed)
        pairs = draw_pairs(groups[~out].tolist(), PAIRS, rng)
        if not len(pairs.same):
            raise UserError(
                "fuse cannot train its matcher: the training clips show one class only, or no "
                "class twice; use a dataset with more clips per segment."
            )
        matcher, facts = fit_matcher(
            embeddings[~out],
            pairs,
            (embeddings[out], draw_pairs(groups[out].tolist(), PAIRS // 4, rng)),
            hidden=chosen.hidden,
            epochs=chosen.epochs,
            learning_rate=chosen.learning_rate,
            seed=self.settings.run.seed,
        )
        self.stage.fact("matcher", facts)
        made = read_json(self.inputs["reconstruct"] / "manifest.json")["facts"]
        self.stage.fact("protocol", made.get("protocol", model_card.WITHIN))
        self.stage.write_safetensors("matcher.safetensors", matcher.state_dict())
        return matcher

    def groups(self, train: list[dict[str, str]], middle: np.ndarray) -> np.ndarray:
        """Class of every training clip: its scene, or what the image classifier sees in it."""
        if all(row["scene"] for row in train):
            return np.array([row["scene"] for row in train])

        classifier = load_image_classifier(
            self.classifier,
            self.device,
            choose_precision(self.settings.run.precision, self.device),
        )
        best = classifier.probabilities(middle).argmax(1)
        return np.array([str(number) for number in best])

    def generate(self, chains: list[list[int]]) -> np.ndarray:
        """Return the clips, uint8 (clips, frames, h, w, 3), later links made from tail frames."""
        folder = self.inputs["reconstruct"]
        clips = np.array(read_array(folder / "clips.npy")[self.rows])
        blurry = read_array(folder / "blurry.npy")
        longest = self.settings.fuse.max_scans
        links = [[c[place] for c in chains if len(c) > place] for place in range(1, longest)]
        if not any(links):
            return clips
        describe = load_captioner_fn(self.settings, self.device, self.offloader)
        video = VideoGenerator(self.settings, self.device, self.offloader)

        def compute(members: np.ndarray, piece: slice) -> np.ndarray:
            chosen = members[piece]
            # the chain's previous clip ends where this one has to begin
            tails = clips[chosen - 1, -1]
            return video.clips(
                [self.numbers[row] for row in chosen],
                blurry=np.asarray(blurry[self.rows[chosen]]),
                keyframes=tails,
                captions=describe(tails, lambda: self.tokens(tails)),
                purpose="link",
            )

        for place, link in enumerate(filter(None, links), start=1):
            members = np.array(link)
            clips[members] = map_rows(
                self.stage.folder / f".link-{place}.npy",
                partial(partial, compute, members),
                len(members),
                batch_size=self.settings.reconstruct.batch_size,
                dtype="uint8",
                what=f"Links {place}",
            )
        return clips

    def tokens(self, frames: np.ndarray) -> np.ndarray:
        """Return CLIP's tokens of frames, float32 (N, tokens, dim); only GIT asks for them."""
        self.offloader.load(self.clip.model)
        return self.clip.tokens(frames)

    def write(self, chains: list[list[int]], clips: np.ndarray, probability: np.ndarray) -> None:
        """Write ``chains.csv``, ``clips.npy`` (zeros after a short chain's end) and videos."""
        frames, longest = clips.shape[1], self.settings.fuse.max_scans
        shape = (len(chains), longest * frames, *clips.shape[2:])
        rows, films = [], []
        with self.stage.open_array("clips.npy", shape, "uint8") as array:
            for chain, members in enumerate(chains):
                film = np.concatenate([clips[member] for member in members])
                array[chain, : len(film)] = film
                films.append(film)
                for place, member in enumerate(members):
                    matched = f"{probability[member - 1]:.4f}" if place else ""
                    number = self.numbers[member]
                    rows.append((chain, place, number, int(place > 0), matched, frames))
        self.stage.write_csv("chains.csv", HEADER, rows)
        for finished in self.stage.folder.glob(".link-*.npy"):
            finished.unlink()
        names = [f"chain-{chain:04d}.mp4" for chain in range(len(chains))]
        write_videos(self.stage.folder / "videos", films, self.settings.reconstruct.fps, names)
        lengths = np.bincount([len(chain) for chain in chains], minlength=longest + 1)[1:]
        self.stage.fact("chains_by_length", [int(number) for number in lengths])
        console.info(f"{len(chains)} chains of {len(clips)} clips in {self.stage.folder}")
