"""Say stage by stage what is right: object and color, place and direction, from scans to clips.

Reads a finished run on a simulated data set (``reconstruct``, on all test clips) and prints a
Markdown table for the test clips without a film cut::

    python examples/stage_table.py neuroclips-demo/dataset neuroclips-demo/runs/sub-01

Classes of frames (kind and color) and of clips (kind and setting), 60 each, are named by the
synthetic dataset's evaluators; those of tokens by CLIP's text tower: which caption lies nearest.
Color, place and direction are read by ridge regressions fitted to the training films: from their
frames, as maps of how much of 32 typical colors there is in each of 8 x 8 fields, and from their
scans. The same readers of pictures look at every stage, and the film itself shows what they can
reach. Place is the correlation of true and read position in the middle of the clip, the mean of
both axes. Direction counts where an object moves left, right, up or down: from pictures it is that
of the way from the place read in the first frame to that in the last.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2

from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
from neuroclips_cli.backbones.clip import load_clip, load_projector
from neuroclips_cli.backbones.pixels import resize_frames
from neuroclips_cli.data.resample import frame_indices
from neuroclips_cli.runs.stage import read_array, read_csv
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.signal.reproducibility import mean_over_repetitions
from neuroclips_cli.simulation import synthetic_world
from neuroclips_cli.simulation.films import film_names, world_plans

GRID, PIXELS = 8, 16
"""Fields across a picture, and the pixels across it whose colors are compared."""
PALETTE, NEAR = 32, 0.1
"""Typical colors, and the distance (RGB, 0 to 1) within which a pixel counts as of one."""
MIDDLE = 3
"""Of the six frames of a clip, the one a second after its start."""
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Tried penalties of a regression, as multiples of a row's mean squared norm."""
HEADINGS = {
    synthetic_world.MOTIONS.index(name): heading
    for name, heading in {
        "moving left": (-1, 0),
        "moving right": (1, 0),
        "rising": (0, -1),
        "falling": (0, 1),
    }.items()
}


class Shown:
    """What the clips of a split show, for those that no film cut goes through.

    Parameters
    ----------
    dataset, run : Path
        Simulated data set, and the run folder of a subject.
    split : str
        ``train`` or ``test``.
    settings : Settings
        ``[data]`` says which frames a clip has.

    Attributes
    ----------
    index : numpy.ndarray
        int (clips,), the clips without a cut.
    scenes : list of world.Scene
    places : numpy.ndarray
        float32 (clips, frames, 2), the object's center (x, y).
    """

    def __init__(self, dataset: Path, run: Path, split: str, settings: Settings) -> None:
        drawn = json.loads((dataset / "simulation.json").read_text())["settings"]
        if drawn["stimuli"]:
            raise SystemExit(f"{dataset} shows given videos, of which no places are known")
        rows = [row for row in read_csv(run / "preprocess/clips.csv") if row["split"] == split]
        films = _films(drawn, split)
        frames = settings.data.frames_per_clip
        times = np.arange(frames) * settings.data.clip_s / frames
        kept = [row for row in rows if row["crosses_scene"] == "0"]
        self.index = np.array([int(row["clip"]) for row in kept])
        self.scenes, places = [], []
        for row in kept:
            film, onset = films[int(row["segment"]) - 1], float(row["onset_s"])
            number = film.scene_index(onset)
            self.scenes.append(film.scenes[number])
            since = onset - film.starts_s[number]
            places.append(synthetic_world.object_path(film.scenes[number], since + times))
        self.places = np.array(places)

    @property
    def colors(self) -> np.ndarray:
        """One-hot colors, float64 (clips, colors)."""
        return np.eye(len(synthetic_world.COLORS))[[scene.color for scene in self.scenes]]

    @property
    def headings(self) -> np.ndarray:
        """Direction of motion, float64 (clips, 2); zeros where an object rests or swings."""
        return np.array([HEADINGS.get(scene.motion, (0, 0)) for scene in self.scenes], float)


def _films(drawn: Mapping[str, float], split: str) -> list[synthetic_world.Film]:
    train, test = int(drawn["train_segments"]), int(drawn["test_segments"])
    names = film_names(train, 0) if split == "train" else film_names(0, test)
    clips = drawn["clips_per_segment" if split == "train" else "test_clips_per_segment"]
    plans = world_plans(dict.fromkeys(names, clips * drawn["clip_s"]), int(drawn["seed"]))
    return [plan.film for plan in plans if plan.film is not None]


Fit = tuple[np.ndarray, np.ndarray, np.ndarray]


def fit(rows: np.ndarray, targets: np.ndarray) -> Fit:
    """Fit a ridge regression whose penalty has the least leave-one-out error.

    Parameters
    ----------
    rows, targets : numpy.ndarray
        float64 (samples, features) and (samples, outputs).

    Returns
    -------
    tuple of numpy.ndarray
        Weight (features, outputs), mean of the rows and mean of the targets.
    """
    mean, level = rows.mean(axis=0), targets.mean(axis=0)
    centered, wanted = rows - mean, targets - level
    kernel = centered @ centered.T
    best, weight = np.inf, np.zeros((rows.shape[1], targets.shape[1]))
    for penalty in PENALTIES:
        inverse = np.linalg.inv(kernel + penalty * np.trace(kernel) / len(rows) * np.eye(len(rows)))
        dual = inverse @ wanted
        error = float(np.square(dual / np.diag(inverse)[:, None]).mean())
        if error < best:
            best, weight = error, centered.T @ dual
    return weight, mean, level


class Reader:
    """Reads color, place and direction from pictures; fitted to true frames of training films.

    Parameters
    ----------
    clips : numpy.ndarray
        uint8 (clips, frames, h, w, 3).
    shown : Shown
        What they show.
    """

    def __init__(self, clips: np.ndarray, shown: Shown) -> None:
        self.last = clips.shape[1] - 1
        pixels = _pixels(clips[:, MIDDLE]).reshape(-1, 3)
        drawn = np.random.default_rng(0).choice(len(pixels), min(len(pixels), 20_000), False)
        self.palette, _ = kmeans2(pixels[drawn], PALETTE, minit="++", seed=0)
        self.color = fit(self.fields(clips[:, MIDDLE]), shown.colors)
        self.place = {
            i: fit(self.fields(clips[:, i]), shown.places[:, i]) for i in (0, MIDDLE, self.last)
        }

    def fields(self, frames: np.ndarray) -> np.ndarray:
        """Return how much of each color is in each field, float64 (clips, features)."""
        pixels = _pixels(frames)
        far = np.square(pixels[..., None, :] - self.palette).sum(axis=-1)
        near = np.exp(-far / (2 * NEAR**2)) + 1e-9
        near /= near.sum(axis=-1, keepdims=True)
        size = PIXELS // GRID
        split = near.reshape(len(frames), GRID, size, GRID, size, len(self.palette))
        return split.mean(axis=(2, 4)).reshape(len(frames), -1)

    def read(self, clips: np.ndarray, shown: Shown) -> list[str]:
        """Return color, place and, of moving pictures, direction that are right in clips."""
        middle = self.fields(clips[:, min(MIDDLE, clips.shape[1] - 1)])
        color, place = predict(self.color, middle), predict(self.place[MIDDLE], middle)
        found = [_share(color.argmax(1) == shown.colors.argmax(1)), _agreement(place, shown)]
        if clips.shape[1] == 1:
            return [*found, ""]
        first, last = (
            predict(self.place[i], self.fields(clips[:, j])) for i, j in ((0, 0), (self.last, -1))
        )
        return [*found, _direction(last - first, shown)]


def predict(fitted: Fit, rows: np.ndarray) -> np.ndarray:
    """Return what a regression says of rows."""
    weight, mean, level = fitted
    return np.asarray((rows - mean) @ weight + level)


def _pixels(frames: np.ndarray) -> np.ndarray:
    """Return the frames (clips, h, w, 3) at 16 x 16 pixels, float64 from 0 to 1."""
    return resize_frames(np.ascontiguousarray(frames), PIXELS) / 255.0


def read_scans(run: Path, train: Shown, test: Shown) -> list[str]:
    """Return color, place and direction that a reader finds in scans."""
    scans = mean_over_repetitions(read_array(run / "preprocess/fmri_train.npy"))[train.index]
    new = np.asarray(read_array(run / "preprocess/fmri_test.npy"))[test.index]
    scans, new = (part.reshape(len(part), -1) for part in (scans, new))
    said = []
    for targets in (train.colors, train.places[:, MIDDLE], train.headings):
        said.append(predict(fit(scans.astype(float), targets.astype(float)), new))
    color, place, heading = said
    right = color.argmax(1) == test.colors.argmax(1)
    return [_share(right), _agreement(place, test), _direction(heading, test)]


def _share(right: np.ndarray) -> str:
    return f"{100 * float(np.mean(right)):.0f} %"


def _agreement(place: np.ndarray, shown: Shown) -> str:
    true = shown.places[:, MIDDLE]
    return f"{np.mean([np.corrcoef(place[:, i], true[:, i])[0, 1] for i in (0, 1)]):.2f}"


def _direction(said: np.ndarray, shown: Shown) -> str:
    moves = shown.headings.any(axis=1)
    options = np.array(list(HEADINGS.values()), float)
    found = (said[moves] @ options.T).argmax(1)
    return _share(found == (shown.headings[moves] @ options.T).argmax(1))


def token_class(tokens: np.ndarray, shown: Shown, settings: Settings) -> str:
    """Share of clips whose tokens lie nearest to a caption with the right kind and color."""
    scenes = [
        synthetic_world.Scene(kind, color, 0, setting, 0.0, 0)
        for kind in range(len(synthetic_world.KINDS))
        for color in range(len(synthetic_world.COLORS))
        for setting in range(len(synthetic_world.SETTINGS))
    ]
    clip = load_clip(settings.backbones.clip)
    texts = clip.text_embeddings([synthetic_world.caption(scene) for scene in scenes])
    projector = load_projector(settings.backbones.projector).numpy()
    nearest = (tokens.astype(np.float32).mean(axis=1) @ projector @ texts.T).argmax(1)
    said = np.array([synthetic_world.image_class(scenes[i]) for i in nearest])
    return _share(said == [synthetic_world.image_class(scene) for scene in shown.scenes])


class Evaluators:
    """Name the classes of frames and of clips."""

    def __init__(self, shown: Shown, settings: Settings) -> None:
        evaluators = settings.backbones.clip.removesuffix("clip")
        self.image = load_image_classifier(f"{evaluators}image_classifier")
        self.video = load_video_classifier(f"{evaluators}video_classifier")
        self.frame_class = np.array([synthetic_world.image_class(scene) for scene in shown.scenes])
        self.clip_class = np.array([synthetic_world.video_class(scene) for scene in shown.scenes])

    def classes(self, clips: np.ndarray) -> list[str]:
        """Return how often the first, middle and last frame and the clip have the right class."""
        named = [
            _share(self.image.probabilities(clips[:, i]).argmax(1) == self.frame_class)
            for i in ((0, MIDDLE, -1) if clips.shape[1] > 1 else (0,))
        ]
        if clips.shape[1] == 1:
            return [*named, "", "", ""]
        said = self.video.probabilities(clips).argmax(1)
        return [*named, _share(said == self.clip_class)]


def stages(run: Path, shown: Shown, settings: Settings) -> dict[str, np.ndarray]:
    """Return the pictures of every stage at the film's frame rate, (clips, frames, h, w, 3)."""
    made, index = run / "reconstruct", shown.index
    film = read_array(run / "preprocess/frames_test.npy")
    clips, chosen = read_array(made / "clips.npy"), settings.reconstruct
    rate = settings.data.frames_per_clip / settings.data.clip_s
    at = frame_indices(clips.shape[1], chosen.fps, rate)
    return {
        "blurry clip": np.asarray(read_array(made / "blurry.npy"))[index],
        "keyframe": np.asarray(read_array(made / "keyframes.npy"))[index][:, None],
        "clip": np.asarray(clips[index][:, at]),
        "the film itself": np.asarray(film)[index],
    }


HEADER = ("stage", "first frame", "middle", "last", "clip", "color", "place", "direction")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("run", type=Path, help="run folder of a subject, such as runs/sub-01")
    given = parser.parse_args()
    settings = load_settings({"run.profile": "tiny"})
    train, test = (Shown(given.dataset, given.run, s, settings) for s in ("train", "test"))
    tokens = np.asarray(read_array(given.run / "reconstruct/tokens_prior.npy"))[test.index]
    evaluators = Evaluators(test, settings)
    frames = np.asarray(read_array(given.run / "preprocess/frames_train.npy"))[train.index]
    reader = Reader(frames, train)
    print(f"{len(test.index)} test clips without a cut\n")
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    none = [""] * 3
    print(f"| scans | {' | '.join(['', *none, *read_scans(given.run, train, test)])} |")
    print(f"| tokens | {' | '.join([token_class(tokens, test, settings), *none, *none])} |")
    for name, clips in stages(given.run, test, settings).items():
        cells = [*evaluators.classes(clips), *reader.read(clips, test)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
