"""Every reader of foreign files, with a few sound files for each to mutate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Reader = Callable[[Path], Any]
"""Reads a file; what it returns, if anything, is compared with what `ANSWERS` says of the file."""
SIDES = ("Left", "Right")
COCO_IMAGES = ("a.png", "b.png", "c.png", "d.png")


def _cifti(path: Path) -> Any:
    from neuroclips_cli.data.runs import check_values, open_row
    from neuroclips_cli.data.scan_files import scan_row

    run = open_row(scan_row(path))
    if run.volumes >= 1000:
        return None
    series = run.read()
    check_values(path, series)
    return series


def _nifti(path: Path) -> Any:
    from neuroclips_cli.data.region_files import read_region_file
    from neuroclips_cli.data.regions import inside_volume
    from neuroclips_cli.data.runs import VolumeMask, check_values, open_row
    from neuroclips_cli.data.scan_files import scan_row

    if "mask" in path.name:
        return inside_volume(read_region_file([path]), [], (3, 3, 2), np.eye(4)).mask
    run = open_row(scan_row(path), VolumeMask(np.ones((3, 3, 2), bool), np.eye(4)))
    if run.volumes >= 1000:
        return None
    series = run.read()
    check_values(path, series)
    return series


def _video(path: Path) -> None:
    from neuroclips_cli.data.clips import read_clip
    from neuroclips_cli.data.stimuli import clip_frames, open_stimulus

    read_clip(path, 2.0)
    if path.suffix != ".gif":
        film = open_stimulus(path)
        clips = film.clips(0.5, 2)
        for _ in itertools.islice(clip_frames(film, max(clips, 0), 0.5, 2, 32), 4):
            pass


def _npy(path: Path) -> Any:
    from neuroclips_cli.data.clips import list_clips, open_clips

    names = list_clips(path, "--pred")
    _, frames, size = np.load(path, mmap_mode="r").shape[:3]
    opened = open_clips(path, names, "--pred", clip_s=2.0, target_fps=frames / 2, size=size)
    return opened.read(np.arange(min(len(names), 4)), frames)


def _safetensors(path: Path) -> None:
    from neuroclips_cli.io.safetensors import read_metadata, read_tensors

    read_metadata(path)
    read_tensors(path)


def _toml(path: Path) -> None:
    from neuroclips_cli.settings.load import load_settings

    target = path.with_name("neuroclips.toml")
    path.replace(target)
    load_settings(folder=target.parent, environ={})


def _release(path: Path) -> None:
    from neuroclips_cli.backbones.conversion.files import read_torch
    from neuroclips_cli.data.released_captions import read_caption_list
    from neuroclips_cli.data.released_tensors import check_split

    if path.suffix == ".json":
        read_caption_list(path, 5)
        return
    import torch

    opened, sound = read_torch(path), torch.zeros(5, 2, 3, 4, 4)
    if path.name.startswith("GT"):
        split = check_split("test", 1, torch.zeros(5, 10, 6), opened, 2, path.parent)
        for _ in split.pictures(split.pixel_range(path)):
            pass
    else:
        check_split("test", 1, opened, sound, 2, path.parent).scans(slice(0, 5))


def _captions(path: Path) -> None:
    from neuroclips_cli.data.clip_table import read_captions, read_scenes

    (read_scenes if "scenes" in path.name else read_captions)(path)


def _manifest(path: Path) -> None:
    from neuroclips_cli.io import checksums
    from neuroclips_cli.runs import manifest

    target = path.with_name("manifest.json")
    path.replace(target)
    record = manifest.read(target.parent)
    if record is not None:
        checksums.altered(target.parent, record)


def _coco(path: Path) -> None:
    from neuroclips_cli.data.coco_captions import read_captioned

    folder = path.parent / "coco"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name in COCO_IMAGES:
        (folder / name).write_bytes(_png())
    path.replace(folder / ("a.png" if path.suffix == ".png" else path.name))
    if path.suffix == ".png":
        (folder / "captions_a.json").write_text(_coco_text())
    images = read_captioned(folder)
    images.read(np.arange(len(images.paths)), (8, 8))


def _surface(path: Path) -> None:
    from neuroclips_cli.data.surfaces import read_flat

    read_flat(path, 4, "--surface-left")


def _labels(path: Path) -> None:
    from neuroclips_cli.data.region_files import read_region_file
    from neuroclips_cli.data.regions import inside_models, labels_of, on_models

    models, file = _cortex(), read_region_file([path])
    inside_models(file, ["V1"], models)
    labels_of(file, on_models(file, 0, models))


def _cifti_by_nibabel(path: Path) -> Any:
    import nibabel as nib

    image = nib.load(path)
    models = image.header.get_axis(1)
    cortex = np.char.startswith(np.asarray(models.name, str), "CIFTI_STRUCTURE_CORTEX_")
    cortex &= ~np.char.endswith(np.asarray(models.name, str), "CORTEX")
    return np.asarray(image.dataobj)[:, cortex].astype(np.float32)


def _nifti_by_nibabel(path: Path) -> Any:
    import nibabel as nib

    values = np.asarray(nib.load(path).dataobj)
    if "mask" in path.name:
        values = values.reshape(3, 3, 2).astype(float)
        return np.isfinite(values) & (values >= 0.5)
    return values.reshape(18, -1).T.astype(np.float32)


def _npy_by_numpy(path: Path) -> Any:
    clips = np.load(path, allow_pickle=False)[:4]
    square = clips.shape[2] == clips.shape[3]
    return clips if clips.dtype == np.uint8 and square and clips.shape[1] < 100 else None


ANSWERS: dict[str, Reader] = {
    "cifti": _cifti_by_nibabel,
    "nifti": _nifti_by_nibabel,
    "npy": _npy_by_numpy,
}
"""What a file holds, without neuroclips; None where there is nothing to compare."""

READERS: dict[str, Reader] = {
    "cifti": _cifti,
    "nifti": _nifti,
    "video": _video,
    "npy": _npy,
    "safetensors": _safetensors,
    "toml": _toml,
    "captions": _captions,
    "manifest": _manifest,
    "release": _release,
    "coco": _coco,
    "surface": _surface,
    "labels": _labels,
}


def write_seeds(folder: Path) -> dict[str, list[Path]]:
    """Write sound files; return them by reader."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "cifti": _write_cifti(folder),
        "nifti": _write_nifti(folder),
        "video": _write_videos(folder),
        "npy": _write_arrays(folder),
        "safetensors": _write_tensors(folder),
        "toml": _write_toml(folder),
        "captions": _write_tables(folder),
        "manifest": _write_manifest(folder),
        "release": _write_release(folder),
        "coco": _write_coco(folder),
        "surface": _write_surface(folder),
        "labels": _write_labels(folder),
    }


def _cortex() -> Any:
    from nibabel.cifti2 import BrainModelAxis

    left, right = (BrainModelAxis.from_mask(np.ones(12, bool), f"Cortex{s}") for s in SIDES)
    return left + right


def _write_cifti(folder: Path) -> list[Path]:
    import nibabel as nib

    series = nib.cifti2.SeriesAxis(0, 2.0, 20, "SECOND")
    data = np.random.default_rng(0).normal(size=(20, 24)).astype(np.float32)
    path = folder / "seg1_1.dtseries.nii"
    nib.cifti2.Cifti2Image(data, header=(series, _cortex())).to_filename(path)
    return [path]


def _write_nifti(folder: Path) -> list[Path]:
    import nibabel as nib

    data = np.random.default_rng(0).normal(size=(3, 3, 2, 20)).astype(np.float32)
    image = nib.Nifti1Image(data, np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1, 1, 1, 2))
    mask = nib.Nifti1Image(np.ones((3, 3, 2), np.uint8), np.eye(4))
    paths = [folder / n for n in ("run.nii", "run.nii.gz", "mask.nii", "mask.nii.gz")]
    for path in paths:
        (mask if "mask" in path.name else image).to_filename(path)
    return paths


def _write_videos(folder: Path) -> list[Path]:
    import av
    from PIL import Image

    frames = np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3)).astype(np.uint8)
    paths = []
    for name, codec in (("film.mp4", "libx264"), ("film.mkv", "mpeg4"), ("film.avi", "mpeg4")):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=8)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        paths.append(folder / name)
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(folder / "film.gif", save_all=True, append_images=images[1:], duration=125)
    return [*paths, folder / "film.gif"]


def _write_arrays(folder: Path) -> list[Path]:
    arrays = {
        "clips.npy": np.zeros((2, 3, 4, 4, 3), np.uint8),
        "scans.npy": np.zeros((3, 2), np.float32),
        "pickled.npy": np.array([{"a": 1}, None], object),
    }
    for name, array in arrays.items():
        np.save(folder / name, array, allow_pickle=True)
    np.savez(folder / "zip.npz", a=np.zeros(3))
    (folder / "zip.npz").replace(folder / "zip.npy")
    return [*(folder / name for name in arrays), folder / "zip.npy"]


def _write_tensors(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    tensors = {"model.w": torch.zeros(3, 2), "optimizer.0.step": torch.ones(1)}
    save_file(tensors, folder / "last.safetensors", metadata={"state": '{"progress": {}}'})
    return [folder / "last.safetensors"]


def _write_toml(folder: Path) -> list[Path]:
    text = 'profile = "tiny"\nsubject = 1\n\n[data]\ntr_s = 2.0\nregions = ["V1", "V2"]\n'
    (folder / "settings.toml").write_text(text + "[train_pr]\nepochs = 3\nlearning_rate = 1e-3\n")
    return [folder / "settings.toml"]


def _write_tables(folder: Path) -> list[Path]:
    (folder / "captions.csv").write_text(
        'split,clip,caption\ntrain,0,"a <b>red</b> ball, rising"\ntest,1,"two\nlines"\n'
    )
    (folder / "scenes.csv").write_text("film,scene,start_s,end_s\nseg1,1,0,3.5\nseg1,2,3.5,6\n")
    return [folder / "captions.csv", folder / "scenes.csv"]


def _write_manifest(folder: Path) -> list[Path]:
    import json

    record = {"stage": "preprocess", "state": "done", "seed": 0, "facts": {}, "outputs": {"a": "0"}}
    record |= {"settings": {}, "inputs": {}, "determined_by": {}, "marks": {"a": "1:2"}}
    (folder / "record.json").write_text(json.dumps(record, indent=1))
    return [folder / "record.json"]


def _write_release(folder: Path) -> list[Path]:
    import json

    import torch

    torch.save(torch.randn(5, 10, 6), folder / "subj01_test_fmri.pt")
    torch.save(torch.rand(5, 2, 3, 4, 4), folder / "GT_test_3fps.pt")
    texts = [f"a <b>red</b> ball {number}" for number in range(5)]
    (folder / "test_captions.json").write_text(json.dumps(texts))
    return [folder / n for n in ("subj01_test_fmri.pt", "GT_test_3fps.pt", "test_captions.json")]


def _png() -> bytes:
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.arange(12 * 9 * 3, dtype=np.uint8).reshape(9, 12, 3)).save(stream, "png")
    return stream.getvalue()


def _coco_text() -> str:
    import json

    images = [{"id": n, "file_name": name} for n, name in enumerate(COCO_IMAGES)]
    notes = [{"id": n, "image_id": n % 4, "caption": f"a <b>red</b> ball {n}"} for n in range(8)]
    return json.dumps({"images": images, "annotations": notes})


def _write_coco(folder: Path) -> list[Path]:
    (folder / "captions_a.json").write_text(_coco_text())
    (folder / "picture.png").write_bytes(_png())
    return [folder / "captions_a.json", folder / "picture.png"]


def _write_surface(folder: Path) -> list[Path]:
    import nibabel as nib
    from nibabel.gifti import GiftiDataArray, GiftiImage

    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [1, 3, 2]], np.int32)
    arrays = [
        GiftiDataArray(points, intent="NIFTI_INTENT_POINTSET"),
        GiftiDataArray(triangles, intent="NIFTI_INTENT_TRIANGLE"),
    ]
    path = folder / "L.flat.surf.gii"
    nib.save(GiftiImage(darrays=arrays), path)
    return [path]


def _write_labels(folder: Path) -> list[Path]:
    from nibabel.cifti2 import Cifti2Image, LabelAxis

    colors = [{0: ("???", (0, 0, 0, 0)), 1: ("L_V1_ROI", (1, 0, 0, 1)), 2: ("V2", (0, 1, 0, 1))}]
    values = np.arange(24, dtype=np.float32)[None] % 3
    path = folder / "regions.dlabel.nii"
    Cifti2Image(values, header=(LabelAxis(["areas"], colors), _cortex())).to_filename(path)
    return [path]
