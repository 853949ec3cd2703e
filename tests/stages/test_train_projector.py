"""train-projector on drawn images with captions, and what train-sr then uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.captioned_images import IMAGES, draw_captioned_images
from PIL import Image

from neuroclips_cli.backbones.clip import load_projector
from neuroclips_cli.cli import main as cli
from neuroclips_cli.data.coco_captions import read_captioned
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.stages import _requests, train_projector


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    return draw_captioned_images(tmp_path_factory.mktemp("coco") / "coco")


def settings_for(workdir: Path, **flags: object) -> Settings:
    small = {"train_projector.epochs": 30, "train_projector.batch_size": 24, "run.device": "cpu"}
    small |= {"train_projector.validation_share": 0.25, "train_projector.learning_rate": 3e-3}
    return load_settings({"run.workdir": str(workdir), **small, **flags}, environ={})


def test_retrieval_is_better_after_than_before_and_train_sr_takes_the_result(coco, tmp_path):
    settings = settings_for(tmp_path / "runs")
    assert _requests.projector_reference(settings) == "assets:tiny/projector"
    folder = train_projector.run(settings, coco)
    assert folder == tmp_path / "runs" / "train-projector"
    found = json.loads((folder / "retrieval.json").read_text())
    assert (found["held_out"], found["trained_on"], found["among"]) == (60, 180, 60)
    for way in ("image_to_text", "text_to_image"):
        assert found["after"][way] >= found["before"][way] + 0.2
    assert _requests.projector_reference(settings) == str(folder)
    backbones = settings.backbones
    weight = load_projector(str(folder))
    assert weight.shape == (backbones.token_dim, backbones.embed_dim)

    subject = settings_for(tmp_path / "runs", **{"run.subject": 2})
    assert _requests.projector_reference(subject) == str(folder)
    own = settings_for(tmp_path / "runs", **{"backbones.projector": str(tmp_path)})
    assert _requests.projector_reference(own) == str(tmp_path)

    before = folder.joinpath("projector.safetensors").read_bytes()
    train_projector.run(settings, coco)
    train_projector.run(settings, coco, overwrite=True)
    assert folder.joinpath("projector.safetensors").read_bytes() == before


def test_every_image_has_its_captions_and_pictures_are_cut_in_the_middle(coco):
    images = read_captioned(coco)
    assert len(images.paths) == IMAGES and all(len(own) == 2 for own in images.captions)
    assert images.captions[5][0] == images.captions[5][0].strip()
    frames = images.read(np.array([3, 4]), (64, 64))
    with Image.open(coco / "train2017" / "000003.png") as image:
        assert np.array_equal(frames[0], np.asarray(image)[:, 8:72])


def test_folders_without_captions_or_images_are_one_sentence(tmp_path, capsys):
    assert cli.run(["train-projector", str(tmp_path / "none")]) == 2
    (tmp_path / "coco").mkdir()
    assert cli.run(["train-projector", str(tmp_path / "coco")]) == 2
    said = capsys.readouterr().err
    assert "there is no folder" in said and "holds no captions" in said
    folder = draw_captioned_images(tmp_path / "small", images=5)
    (folder / "train2017" / "000002.png").unlink()
    with pytest.raises(UserError, match="names the image 000002.png"):
        read_captioned(folder)
    file = folder / "annotations" / "captions_train2017.json"
    file.write_text('{"images": [{"id": 1}], "annotations": []}')
    with pytest.raises(UserError, match="COCO's caption layout"):
        read_captioned(folder)
