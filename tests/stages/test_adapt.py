"""Several subjects in one decoder, and a new subject fitted to it, as whole stages."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers import stand_ins
from safetensors.torch import load_file

from neuroclips_cli.cli import models_show
from neuroclips_cli.errors import UserError
from neuroclips_cli.models.checkpoint import load_perception, load_semantics
from neuroclips_cli.runs import manifest, model_card
from neuroclips_cli.runs.locations import stage_folder
from neuroclips_cli.runs.state import command_for
from neuroclips_cli.settings.load import replace_settings
from neuroclips_cli.stages import _training_data, adapt, train_pr, train_sr
from neuroclips_cli.stages._training_scans import require_unseen

VOXELS = {1: 12, 2: 9, 3: 7}


@pytest.fixture
def calls(monkeypatch):
    return stand_ins.install(monkeypatch)


@pytest.fixture
def settings(tmp_path, calls):
    chosen = stand_ins.settings(tmp_path)
    return replace_settings(chosen, {"train_pr.epochs": 1, "train_sr.contrastive_epochs": 1})


def _of(settings, subject):
    return replace_settings(settings, {"run.subject": subject})


def _pool(settings, *subjects):
    return replace_settings(settings, {"run.subjects": subjects, "run.subject": subjects[0]})


def _preprocess(settings, *subjects, **more):
    for subject in subjects:
        stand_ins.write_preprocess(_of(settings, subject), voxels=VOXELS[subject], **more)


def test_one_decoder_decodes_every_subject_and_its_card_says_who_they_are(settings, calls):
    _preprocess(settings, 1, 2)
    pool = _pool(settings, 1, 2)
    folder = train_sr.run(pool)
    assert folder == stage_folder(pool, "train-sr")
    assert folder.parent.name == "pool-01-02"
    assert calls.count("tokens") == 1, "films that both saw go through the network once"
    weights = load_file(folder / "model.safetensors")
    assert [tuple(weights[f"ridge.linears.{n}.weight"].shape) for n in (0, 1)] == [
        (16, 12),
        (16, 9),
    ]
    for subject in (1, 2):
        _, contrastive = load_semantics(folder, subject)(torch.randn(2, VOXELS[subject]))
        assert contrastive.shape == (2, stand_ins.TOKENS, stand_ins.DIM)
    with pytest.raises(UserError, match="no first layer for subject 3"):
        load_semantics(folder, 3)
    card = model_card.read(folder)
    assert card is not None and card.numbers == (1, 2)
    assert [card.protocol_for(subject) for subject in (2, 3)] == ["pooled", "unseen"]
    assert [one.film_minutes for one in card.subjects] == [0.8, 0.8]
    assert models_show.run(folder.parent) == [card]


def test_pooled_training_in_closed_form_has_one_set_of_components(settings):
    _preprocess(settings, 1, 2)
    closed = replace_settings(_pool(settings, 1, 2), {"train_sr.ridge_closed_form": True})
    folder = train_sr.run(closed)
    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    assert len(facts["ridge"]["penalty"]) == 2
    weights = load_file(folder / "model.safetensors")
    unused = [
        (weights[f"ridge.linears.{n}.weight"][facts["ridge"]["components"] :] == 0).all()
        for n in (0, 1)
    ]
    assert all(unused)


def test_an_average_subject_is_learned_in_a_common_space_only(settings):
    places = np.arange(12)
    for subject in (1, 2):
        stand_ins.write_preprocess(_of(settings, subject), index=places)
    folder = train_pr.run(
        replace_settings(_pool(settings, 1, 2), {"train_pr.subject_dropout": 0.5})
    )
    assert load_perception(folder, 7)(torch.randn(1, 12)).shape == (1, stand_ins.FRAMES, 4, 2, 2)
    unseen = _of(settings, 7)
    for given, sentence in (
        ({"index": places}, ""),
        ({"index": places + 1}, "not preprocessed in the voxels that .*train-pr was trained on"),
        ({"index": places, "test_films": slice(3, 5)}, "test clip 0 of subject 7 is a training"),
    ):
        stand_ins.write_preprocess(unseen, **given)
        with pytest.raises(UserError, match=sentence) if sentence else nullcontext():
            require_unseen(unseen, [folder], stage_folder(unseen, "preprocess"))
    own = stage_folder(unseen, "preprocess")
    record = manifest.read(own)
    assert record is not None
    record["determined_by"]["sections"] = {"data": {"common": [1, 2, 7]}}
    manifest.write(own, record)
    with pytest.raises(UserError, match="chosen by its own training films, too"):
        require_unseen(unseen, [folder], own)
    apart = replace_settings(settings, {"run.workdir": settings.run.workdir + "-apart"})
    _preprocess(apart, 1, 2)
    chosen = replace_settings(_pool(apart, 1, 2), {"train_pr.subject_dropout": 0.5}, origin="flag")
    with pytest.raises(UserError, match="train_pr.subject_dropout asks for .* different voxels"):
        train_pr.run(chosen)


def test_films_that_only_some_saw_are_encoded_once_and_never_leak(settings, monkeypatch):
    _preprocess(settings, 1, films=slice(0, 24), test_films=slice(60, 62))
    _preprocess(settings, 2, films=slice(8, 32), test_films=slice(62, 64))
    encoded: list[int] = []
    encode = _training_data.encode_frames

    def counted(vae, frames):
        encoded.append(len(frames) // stand_ins.FRAMES)
        return encode(vae, frames)

    monkeypatch.setattr(_training_data, "encode_frames", counted)
    folder = train_pr.run(_pool(settings, 1, 2))
    assert encoded == [24, 8]
    card = model_card.read(folder)
    assert card is not None
    # Subject 1 holds out the film's clips 16 to 23, subject 2 the clips 24 to 31.
    assert [one.clips for one in card.subjects] == [16, 8]


def test_a_training_film_of_one_that_is_a_test_film_of_another_is_refused(settings):
    _preprocess(settings, 1, test_films=slice(60, 62))
    _preprocess(settings, 2, test_films=slice(3, 5))
    with pytest.raises(UserError, match="test clip 0 of subject 2 is a training clip of subject 1"):
        train_pr.run(_pool(settings, 1, 2))


def test_an_adaptation_trains_what_its_mode_names_and_nothing_else(settings):
    _preprocess(settings, 1, 2)
    _preprocess(settings, 3, segments=2)
    parent = train_sr.run(_pool(settings, 1, 2))
    before = load_file(parent / "model.safetensors")
    for mode in ("ridge", "embedder", "full"):
        home = adapt.run(
            _of(settings, 3), parent="pool-01-02", minutes=0.6, mode=mode, only="train-sr"
        )
        assert home.name == f"adapted-03-0.6min-{mode}"
        after = load_file(home / "train-sr" / "model.safetensors")
        changed = {
            name
            for name in after
            if not name.startswith("ridge.") and not torch.equal(before[name], after[name])
        }
        trunk = {name for name in after if name.startswith("backbone.blocks.")}
        if mode == "full":
            assert trunk < changed
        else:
            assert changed == (trunk if mode == "embedder" else set())
        assert tuple(after["ridge.linears.0.weight"].shape) == (16, 7)
        card = model_card.read(home / "train-sr")
        assert card is not None and card.parent is not None
        assert (card.protocol, card.mode) == ("adapted:0.6", mode)
        assert (card.parent.name, card.parent.protocol) == ("pool-01-02/train-sr", "pooled")
        assert [one.clips + one.held_out_clips for one in card.subjects] == [18]
        own = replace_settings(_of(settings, 3), {"run.decoder": home.name})
        assert command_for("train-sr", own).startswith(
            f"neuroclips adapt --subject 3 --from pool-01-02 --minutes 0.6 --mode {mode}"
        )


def test_bad_wishes_are_refused_in_a_sentence(settings, tmp_path):
    _preprocess(settings, 1, 2, 3)
    folder = train_pr.run(_pool(settings, 1, 2))
    new = _of(settings, 3)
    for wishes, message in (
        ({"parent": "nothing"}, "no decoder of that name"),
        ({"parent": "pool-01-02", "mode": "rigde"}, "did you mean 'ridge'"),
        ({"parent": "pool-01-02", "minutes": 30}, "more than there is.* 0.8 minutes"),
        ({"parent": "pool-01-02", "minutes": 0.1}, "at least 12 are needed"),
        ({}, "name it with --from"),
        ({"parent": "pool-01-02", "mode": "scratch"}, "leave --from out"),
    ):
        with pytest.raises(UserError, match=message):
            adapt.run(new, only="train-pr", **wishes)
    with pytest.raises(UserError, match="among those that .* was trained on"):
        adapt.run(_of(settings, 2), parent="pool-01-02", only="train-pr")
    other = replace_settings(new, {"perception.hidden": 8})
    with pytest.raises(UserError, match="perception.hidden = 16"):
        adapt.run(other, parent="pool-01-02", only="train-pr")
    for subjects in ((1,), (1, 1)):
        with pytest.raises(UserError, match="names one subject"):
            train_pr.run(_pool(settings, *subjects))
    alone = replace_settings(_of(settings, 1), {"run.decoder": "pool-01-02"})
    with pytest.raises(UserError, match="train it with --subjects 1,2, or give another name"):
        train_pr.run(alone)
    for stage in ("train-pr", "train-sr"):
        assert command_for(stage, alone).startswith(f"neuroclips {stage} --subjects 1,2 --workdir")
    card = json.loads((folder / "model_card.json").read_text())
    card["subjects"][0]["voxels"] = 5
    (folder / "model_card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="contradicts the weights"):
        models_show.run(folder)


def test_subjects_of_different_protocols_are_refused(settings):
    _preprocess(settings, 1, 2)
    folder = stage_folder(_of(settings, 2), "preprocess")
    record = manifest.read(folder)
    assert record is not None
    record["determined_by"]["sections"] = {"data": {"delay_s": 6.0}}
    manifest.write(folder, record)
    with pytest.raises(UserError, match="subject 2 was preprocessed with data.delay_s = 6.0"):
        train_pr.run(_pool(settings, 1, 2))


def test_a_multi_subject_checkpoint_begins_an_adaptation_without_its_ridge_layers(
    settings, tmp_path
):
    from neuroclips_cli.models.released.checkpoints import export_published, write_last_pth
    from neuroclips_cli.models.semantics import Semantics

    _preprocess(settings, 3)
    released = replace_settings(
        settings, {"semantics.backbone": "released", "semantics.token_pca_rank": 0}
    )
    sizes = released.semantics
    model = Semantics([7, 5], sizes, stand_ins.TOKENS, stand_ins.DIM)
    write_last_pth(tmp_path / "last.pth", export_published(model), sizes.token_space)
    chosen = replace_settings(
        _of(released, 3),
        {"backbones.tokens": stand_ins.TOKENS, "backbones.token_dim": stand_ins.DIM},
    )
    home = adapt.run(chosen, parent=str(tmp_path / "last.pth"), minutes=0.6, mode="ridge")
    made = load_file(home / "train-sr" / "model.safetensors")
    head = "backbone.backbone_linear.weight"
    assert torch.equal(made[head], model.state_dict()[head])
    assert not torch.equal(
        made["ridge.linears.0.weight"], model.state_dict()["ridge.linears.0.weight"]
    )
    card = model_card.read(home / "train-sr")
    assert card is not None and card.parent is not None and card.parent.name == "last.pth"


def test_other_backbones_than_the_parents_and_other_films_than_its_card_names_are_refused(
    settings, tmp_path
):
    _preprocess(settings, 1, 2, 3)
    new = _of(settings, 3)
    train_sr.run(_pool(settings, 1, 2))
    wishes = {"parent": "pool-01-02", "mode": "ridge", "only": "train-sr"}
    copied = tmp_path / "copied"
    shutil.copytree(tmp_path / "nets" / "clip", copied)
    same = adapt.run(replace_settings(new, {"backbones.clip": str(copied)}), **wishes)
    assert model_card.read(same / "train-sr").numbers == (3,), "the same weights elsewhere"
    (copied / "weights").write_text("others")
    for reference, sentence in ((copied, "the adaptation has"), ("assets:tiny/clip", "assets")):
        with pytest.raises(UserError, match=rf"was trained with backbones.clip.*{sentence}"):
            adapt.run(replace_settings(new, {"backbones.clip": str(reference)}), **wishes)
    stand_ins.write_preprocess(
        _of(settings, 2), voxels=VOXELS[2], films=slice(8, 32), overwrite=True
    )
    with pytest.raises(UserError, match="sub-02/preprocess is not what .* names other films"):
        adapt.run(new, **wishes)
    (tmp_path / "nets" / "clip" / "weights").write_text("others")
    with pytest.raises(UserError, match="has other weights in"):
        adapt.run(new, **wishes)
