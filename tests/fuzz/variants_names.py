"""Names and links (kind 5): data sets, captioned pictures and clips, however their folders lie.

What is right is known from how each tree is written: every file's own path.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from PIL import Image
from variants import Refusal, Variant

SEGMENTS = {"seg1": 2, "seg2": 2, "test1": 3}
"""Repetitions by film."""
SUBJECTS = (
    "subject1",
    "Subject01",
    "sub-01",
    "SUBJ_1",
    "data/sub1",
    "10_4231_R7X63K3M/video_fmri_dataset/subject1",
    "10_4231_R7X63K3M/10_4231_R7X63K3M/bundle/video_fmri_dataset/subject1",
    "CC2017_Purdue/Subject01/video_fmri_dataset/subject1",
    "subject1/video_fmri_dataset/subject1",
)
STIMULI = ("stimuli", "10_4231_R71Z42KK/video_fmri_dataset/stimuli", "bundle/Stimuli")
ANNEX = ".git/annex/objects/x/MD5E-s9--0.nii/MD5E-s9--0.nii"


def _write(path: Path, content: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if content is not None else str(path))
    return path


def _cifti(film: str, repetition: int) -> str:
    return f"{film}/cifti/{film}_{repetition}_Atlas.dtseries.nii"


def _mni(film: str, repetition: int) -> str:
    stray = film == "test1" and repetition == 3
    return f"{film}/mni/{film}_{repetition}{'.' if stray else '_'}mni.nii.gz"


def _raw(film: str, repetition: int) -> str:
    return f"{film}/raw/{film}_{repetition}.nii.gz"


FORMS: dict[str, Callable[[str, int], str]] = {"cifti": _cifti, "mni": _mni, "raw": _raw}


def _dataset(root: Path, subject: str, stimuli: str, forms: tuple[str, ...], asked: str) -> dict:
    """Write a data set; return folder, answer and whether volumes are asked for."""
    answer: dict[str, str] = {}
    for film, repetitions in SEGMENTS.items():
        answer[film] = str(_write(root / stimuli / f"{film}.mp4"))
        for repetition, form in itertools.product(range(1, repetitions + 1), forms):
            path = _write(root / subject / "fmri" / FORMS[form](film, repetition))
            if form == asked:
                answer[f"{film}_{repetition}"] = str(path)
    return {"root": root, "answer": answer, "volumetric": asked != "cifti"}


def _layout(given: dict) -> dict[str, str]:
    from neuroclips_cli.data.layout import find_layout

    layout = find_layout(given["root"], 1, volumetric=given["volumetric"])
    found = {}
    for segment in (*layout.train, *layout.test):
        found[segment.name] = str(segment.film.resolve())
        for repetition, path in segment.runs.items():
            found[f"{segment.name}_{repetition}"] = str(path.resolve())
    return found


def _answer(given: dict) -> dict[str, str]:
    return {name: str(Path(path).resolve()) for name, path in given["answer"].items()}


def _nestings() -> Iterator[Variant]:
    """Every place of the subject's folder and of the films, alone and with other spaces beside."""
    asked = {
        "cifti alone": (("cifti",), "cifti"),
        "cifti of three": (("raw", "mni", "cifti"), "cifti"),
        "mni of three": (("raw", "mni", "cifti"), "mni"),
        "raw alone": (("raw",), "raw"),
    }
    for (name, (forms, form)), subject, stimuli in itertools.product(
        asked.items(), SUBJECTS, STIMULI
    ):

        def make(folder: Path, s=subject, f=stimuli, forms=forms, form=form) -> dict:
            return _dataset(folder, s, f, forms, form)

        yield Variant(f"{name}: {subject}, {stimuli}", make, _layout, _answer)


def _film_run(given: dict, film: str = "seg1", repetition: int = 1) -> tuple[Path, Path]:
    return Path(given["answer"][film]), Path(given["answer"][f"{film}_{repetition}"])


def _link_films(given: dict) -> None:
    film, _ = _film_run(given)
    away = given["root"].parent / f"{given['root'].name}-films"
    shutil.move(film.parent, away)
    film.parent.symlink_to(away)


def _link_runs(given: dict) -> None:
    _, run = _film_run(given)
    fmri = run.parents[2]
    away = given["root"].parent / f"{given['root'].name}-runs"
    shutil.move(fmri, away)
    fmri.symlink_to(os.path.relpath(away, fmri.parent))


def _link_each_file(given: dict) -> None:
    away = given["root"].parent / f"{given['root'].name}-content"
    away.mkdir()
    for number, path in enumerate(map(Path, given["answer"].values())):
        path.rename(away / str(number))
        path.symlink_to(away / str(number))


def _loop(given: dict) -> None:
    (given["root"] / "all").symlink_to(given["root"])
    _, run = _film_run(given)
    (run.parent / "up").symlink_to("..")


def _self_link(given: dict) -> None:
    (given["root"] / "me").symlink_to("me")


def _mac(given: dict) -> None:
    for path in map(Path, given["answer"].values()):
        _write(path.with_name(f"._{path.name}"), "resource fork")
        copy = given["root"] / "__MACOSX" / path.relative_to(given["root"])
        _write(copy.with_name(f"._{path.name}"), "resource fork")
        _write(copy, "left over")
    _write(given["root"] / ".DS_Store")


def _capitals(given: dict) -> None:
    for name, text in list(given["answer"].items()):
        path = Path(text)
        upper = path.with_name(path.name.upper())
        path.rename(upper)
        given["answer"][name] = str(upper)


def _other_subject_inside(given: dict) -> None:
    """A second subject's folder below the first one's, as bundles unpacked into one another."""
    _, run = _film_run(given)
    for film, repetitions in SEGMENTS.items():
        for repetition in range(1, repetitions + 1):
            _write(run.parents[2] / "subject2" / FORMS["cifti"](film, repetition))


def _linked_twice(given: dict) -> None:
    film, run = _film_run(given)
    (given["root"] / "more").mkdir()
    (given["root"] / "more" / film.name).symlink_to(film)
    (run.parents[2] / "again").symlink_to(run.parents[1])


def _copied_films(given: dict) -> None:
    film, _ = _film_run(given)
    shutil.copytree(film.parent, given["root"] / "copy" / film.parent.name)


CHANGES = {
    "films behind a link": _link_films,
    "runs behind a link": _link_runs,
    "each file behind a link": _link_each_file,
    "links in circles": _loop,
    "a link to itself": _self_link,
    "leftovers of macOS": _mac,
    "capitals": _capitals,
    "another subject inside": _other_subject_inside,
    "files linked twice": _linked_twice,
}


def _changed() -> Iterator[Variant]:
    """Links, leftovers and capitals in some of the nestings."""
    for (name, change), subject in itertools.product(CHANGES.items(), SUBJECTS[::2]):

        def make(folder: Path, subject=subject, change=change) -> dict:
            given = _dataset(folder / "d", subject, STIMULI[0], ("cifti",), "cifti")
            change(given)
            return given

        yield Variant(f"{name}: {subject}", make, _layout, _answer)


def _dead(given: dict, which: str, target: str) -> None:
    path = Path(given["answer"][which])
    path.unlink()
    path.symlink_to(target)


def _refusals() -> Iterator[Variant]:
    """Content that was not fetched, copies that contradict, folders that cannot be read."""
    for which, target, subject in itertools.product(
        ("seg1", "seg2_1", "test1_2"), (ANNEX, "/nowhere/at/all"), SUBJECTS[::3]
    ):

        def make(folder: Path, which=which, target=target, subject=subject) -> dict:
            given = _dataset(folder, subject, STIMULI[0], ("cifti",), "cifti")
            _dead(given, which, target)
            return given

        words = (f"{which}", "datalad get" if target is ANNEX else "fetch it")
        name = f"not fetched: {which}, {'annex' if target is ANNEX else 'moved'}, {subject}"
        yield Variant(name, make, _layout, Refusal(words))

    def twice(folder: Path) -> dict:
        given = _dataset(folder, SUBJECTS[0], STIMULI[0], ("cifti",), "cifti")
        _write(folder / SUBJECTS[0] / "more" / "seg1_1_Atlas.dtseries.nii", "another run")
        return given

    yield Variant("two runs called alike", twice, _layout, Refusal(("seg1_1", "twice")))

    def packed(folder: Path) -> dict:
        (folder / "subject1").mkdir()
        _write(folder / "subject1" / "bundle.zip")
        return {"root": folder, "volumetric": False}

    yield Variant("an archive", packed, _layout, Refusal(("bundle.zip", "not unpacked")))

    def closed(folder: Path) -> dict:
        given = _dataset(folder, SUBJECTS[0], STIMULI[0], ("cifti",), "cifti")
        given["closed"] = folder / SUBJECTS[0] / "fmri" / "test1" / "cifti"
        return given

    def with_closed(given: dict) -> dict[str, str]:
        real = os.scandir

        def scandir(path: str | Path) -> Iterator[os.DirEntry[str]]:
            if Path(path) == given["closed"]:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        with mock.patch("os.scandir", scandir):
            return _layout(given)

    yield Variant("an unreadable folder", closed, with_closed, Refusal(("cannot be read",)))


def _pictures(folder: Path, tree: dict[str, list[str]]) -> None:
    """Write captioned folders; a picture's color does not matter, its path does."""
    for place, names in tree.items():
        for name in names:
            path = folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)


def _captions(path: Path, names: list[str], word: str) -> None:
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    notes = [{"id": n, "image_id": n, "caption": f"{word} {n}"} for n in range(len(names))]
    _write(path, json.dumps({"images": images, "annotations": notes}))


def _read_captions(folder: Path) -> dict[str, list[str]]:
    from neuroclips_cli.data.coco_captions import read_captioned

    images = read_captioned(folder)
    return {
        str(path.resolve().relative_to(folder.resolve())): sorted(captions)
        for path, captions in zip(images.paths, images.captions, strict=True)
    }


def _equal_names() -> Iterator[Variant]:
    """Two folders with pictures of equal names, each with its captions."""
    names = [f"{n:06d}.png" for n in range(4)]
    pairs = (("train", "val"), ("train2017", "val2017"), ("a", "b"), ("Train", "VAL"), ("1", "2"))
    for (one, other), stated, place in itertools.product(
        pairs, (False, True), ("annotations", "beside", "above")
    ):

        def make(folder: Path, one=one, other=other, stated=stated, place=place) -> Path:
            _pictures(folder, {one: names, other: names})
            for part in (one, other):
                where = {"annotations": folder / "annotations", "beside": folder / part}
                own = [f"{part}/{name}" if stated else name for name in names]
                stem = f"captions_{part.lower()}"
                _captions(where.get(place, folder) / f"{stem}.json", own, part)
            return folder

        answer = {
            f"{part}/{name}": [f"{part} {n}"]
            for part in (one, other)
            for n, name in enumerate(names)
        }
        label = "folders stated" if stated else "names only"
        yield Variant(f"pictures {one}, {other}: {label}, {place}", make, _read_captions, answer)

    for stem in ("captions", "captions_all", "captions_test"):

        def unclear(folder: Path, stem=stem) -> Path:
            _pictures(folder, {"x": names, "y": names})
            _captions(folder / "annotations" / f"{stem}.json", names, "either")
            return folder

        refusal = Refusal(("000000.png", "x", "y"))
        yield Variant(f"pictures of two folders, {stem}", unclear, _read_captions, refusal)

    def linked(folder: Path) -> Path:
        _pictures(folder, {"far": names})
        (folder / "coco" / "pictures").parent.mkdir()
        (folder / "coco" / "pictures").symlink_to(folder / "far")
        _captions(folder / "coco" / "captions_all.json", names, "p")
        return folder / "coco"

    def read_linked(folder: Path) -> list[str]:
        from neuroclips_cli.data.coco_captions import read_captioned

        return [path.name for path in read_captioned(folder).paths]

    yield Variant("pictures behind a link", linked, read_linked, names)

    for target, word in ((ANNEX, "datalad get"), ("/nowhere", "fetch it")):

        def unfetched(folder: Path, target=target) -> Path:
            _pictures(folder, {"p": names[:3]})
            (folder / "p" / names[3]).symlink_to(target)
            _captions(folder / "captions_p.json", names, "p")
            return folder

        name = f"a picture not fetched: {word}"
        yield Variant(name, unfetched, _read_captions, Refusal((names[3], word)))

    for name, ours, theirs in (
        ("capitals", "A.PNG", "a.png"),
        ("accents apart", "cafe\u0301.png", "caf\u00e9.png"),
        ("back slashes", "a.png", "p\\a.png"),
    ):

        def spelled(folder: Path, ours=ours, theirs=theirs) -> Path:
            _pictures(folder, {"p": [ours, *names[1:]]})
            _captions(folder / "captions_p.json", [theirs, *names[1:]], "p")
            return folder

        answer = {f"p/{file}": [f"p {n}"] for n, file in enumerate([ours, *names[1:]])}
        yield Variant(f"a picture's name in other letters: {name}", spelled, _read_captions, answer)


def _list_clips(folder: Path) -> dict[str, str]:
    from neuroclips_cli.data.clips import list_clips

    return {name: Path(entry).name for name, entry in list_clips(folder, "--pred").items()}


def _clip_sets() -> Iterator[Variant]:
    """Folders of clips with leftovers, capitals and links."""
    for suffix, extra in itertools.product(
        (".mp4", ".MP4", ".gif", ".webm"),
        ("._0000{s}", "Thumbs.db", ".DS_Store", "__MACOSX/0000{s}", "@eaDir/0000.png"),
    ):

        def make(folder: Path, suffix=suffix, extra=extra) -> Path:
            for number in range(3):
                _write(folder / f"{number:04d}{suffix}")
            _write(folder / extra.format(s=suffix))
            return folder

        answer = {f"{number:04d}": f"{number:04d}{suffix}" for number in range(3)}
        yield Variant(f"clips {suffix} beside {extra}", make, _list_clips, answer)

    for suffix, linked in itertools.product((".png", ".PNG", ".Png"), (False, True)):

        def frames(folder: Path, suffix=suffix, linked=linked) -> Path:
            for clip, frame in itertools.product(range(2), range(3)):
                _write(folder / "set" / f"c{clip}" / f"{frame}{suffix}")
            if linked:
                (folder / "set" / "c1").rename(folder / "far")
                (folder / "set" / "c1").symlink_to(folder / "far")
            return folder / "set"

        label = "behind a link" if linked else "in place"
        answer = {"c0": "c0", "c1": "c1"}
        yield Variant(f"frames {suffix} {label}", frames, _list_clips, answer)

    def unfetched(folder: Path) -> Path:
        _write(folder / "0000.mp4")
        (folder / "0001.mp4").symlink_to(ANNEX)
        return folder

    refusal = Refusal(("0001.mp4", "datalad get"))
    yield Variant("a clip not fetched", unfetched, _list_clips, refusal)


def variants(root: Path) -> list[Variant]:
    """Return all variants; they share nothing."""
    return [*_nestings(), *_changed(), *_refusals(), *_equal_names(), *_clip_sets()]
