"""Settings: precedence, profiles, and what is said about slips."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroclips_cli.errors import UserError
from neuroclips_cli.settings import schema
from neuroclips_cli.settings.field import Doc, Range, read_field
from neuroclips_cli.settings.load import (
    environment_names,
    keys,
    load_settings,
    replace_settings,
    sections,
)
from neuroclips_cli.settings.parse import parse_subject
from neuroclips_cli.settings.profiles import lineage, profile_text, read_profile, value_notes
from neuroclips_cli.settings.renamed import RENAMED


def load(tmp_path: Path, flags=None, environ=None, text: str = ""):
    (tmp_path / "neuroclips.toml").write_text(text)
    return load_settings(flags, folder=tmp_path, environ=environ or {})


def message(tmp_path: Path, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, **kwargs)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("profile", schema.PROFILES)
def test_every_profile_lists_every_key_with_its_source(profile):
    written = set()
    for name in lineage(profile):
        text = profile_text(name)
        tables = read_profile(text)[0]
        written |= {f"{section}.{key}" for section, table in tables.items() for key in table}
        assert [line for line in text.splitlines() if " = " in line and "# " not in line] == []
    assert written == {key for key in keys() if not key.startswith("run.")}
    assert set(value_notes(profile)) == written
    assert all(value_notes(profile).values())


def test_compact_states_only_what_differs_from_the_paper(tmp_path):
    paper = load(tmp_path, {"run.profile": "paper"})
    compact = load(tmp_path, {"run.profile": "compact"})
    stated = [key for key, origin in compact.origins.items() if origin == "profile compact"]
    differ = [key for key in list(keys())[1:] if paper.value(key) != compact.value(key)]
    assert stated == differ
    assert len(differ) == 6
    rest = {compact.origins[key] for key in keys() if key not in stated and key[:4] != "run."}
    assert rest == {"profile paper"}


@pytest.mark.parametrize("profile", schema.PROFILES)
def test_every_profile_loads_with_its_name_as_origin(tmp_path, profile):
    settings = load(tmp_path, flags={"run.profile": profile})
    assert settings.run.profile == profile
    assert settings.origins["data.tr_s"] == f"profile {lineage(profile)[-1]}"
    assert settings.origins["run.profile"] == "flag"
    assert settings.origins["run.seed"] == "default"


def test_paper_profile_holds_the_published_numbers(tmp_path):
    paper = load(tmp_path, flags={"run.profile": "paper"})
    assert (paper.train_pr.epochs, paper.train_pr.batch_size) == (150, 40)
    assert (paper.train_sr.contrastive_epochs, paper.train_sr.contrastive_batch_size) == (30, 240)
    assert (paper.train_sr.prior_epochs, paper.train_sr.prior_batch_size) == (150, 64)
    assert paper.train_pr.learning_rate == paper.train_sr.learning_rate == 3e-4
    assert (paper.train_sr.prior_weight, paper.train_sr.reftm_weight) == (30, 1)
    assert (paper.backbones.tokens, paper.backbones.token_dim) == (256, 1664)
    assert (paper.reconstruct.theta, paper.reconstruct.steps) == (0.3, 25)
    assert paper.reconstruct.prompt_suffix.endswith("film grain, Fujifilm XT3")
    assert paper.reconstruct.negative_prompt.endswith("too many fingers, long neck")


def test_the_papers_prompts_are_word_for_word(tmp_path, shared):
    published = next((shared / "paper").glob("*.txt")).read_text("utf-8")
    flat = " ".join(published.split())
    paper = load(tmp_path, flags={"run.profile": "paper"}).reconstruct
    assert paper.prompt_suffix in flat
    assert paper.negative_prompt in flat
    assert paper.prompt_without_keyframe in flat


def test_flags_beat_environment_beats_file_beats_profile(tmp_path):
    text = "[train_pr]\nepochs = 2\nbatch_size = 2\nlearning_rate = 0.5\n"
    environ = {"NEUROCLIPS_TRAIN_PR_EPOCHS": "3", "NEUROCLIPS_TRAIN_PR_BATCH_SIZE": "3"}
    settings = load(tmp_path, {"train_pr.epochs": 4}, environ, text)
    chosen = settings.train_pr
    assert (chosen.epochs, chosen.batch_size, chosen.learning_rate) == (4, 3, 0.5)
    origins = [settings.origins[f"train_pr.{k}"] for k in ("epochs", "batch_size", "learning_rate")]
    assert origins == ["flag", "environment", "neuroclips.toml"]
    assert settings.origins["train_pr.temperature"] == "profile tiny"


def test_the_profile_of_the_file_decides_the_other_values(tmp_path):
    settings = load(tmp_path, text='[run]\nprofile = "paper"\n')
    assert settings.train_pr.epochs == 150


def test_keys_outside_a_section_belong_to_run(tmp_path):
    assert load(tmp_path, text='profile = "compact"\nsubject = 3\n').run.subject == 3


def test_a_flag_of_none_is_not_given(tmp_path):
    assert load(tmp_path, {"train_pr.epochs": None}).origins["train_pr.epochs"] == "profile tiny"


@pytest.mark.parametrize("text", ["1", "01", "sub-01", "sub-1", "subject1", 1])
def test_a_subject_is_read_however_it_is_written(tmp_path, text):
    assert load(tmp_path, {"run.subject": text}).run.subject == 1


@given(st.integers(1, 999_999))
def test_bids_labels_come_back_as_the_number(number):
    assert parse_subject(f"sub-{number:02d}") == number


@pytest.mark.parametrize("text", ["0", "x", "sub-", "-1", "1.5", ""])
def test_no_subject_is_refused(text):
    with pytest.raises(UserError, match="write 1, 01 or sub-01"):
        parse_subject(text)


def test_lists_come_from_text_with_commas(tmp_path):
    environ = {"NEUROCLIPS_EVALUATE_WAYS": "2, 10"}
    settings = load(tmp_path, {"data.regions": "V1,V2"}, environ)
    assert settings.evaluate.ways == (2, 10)
    assert settings.data.regions == ("V1", "V2")


def test_a_whole_number_is_a_number(tmp_path):
    value = load(tmp_path, text="[data]\ntr_s = 2\n").data.tr_s
    assert value == 2.0
    assert isinstance(value, float)


def test_strength_of_the_blur_takes_a_number_from_0_to_1(tmp_path):
    flags = {"reconstruct.blur_init": "strength:0.7"}
    assert load(tmp_path, flags).reconstruct.blur_init == "strength:0.7"
    for wrong in ("strength:2", "strength:x", "strong"):
        assert "eq5" in message(tmp_path, flags={"reconstruct.blur_init": wrong})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('profile = "tyni"', ("'tiny'", "paper", "neuroclips.toml")),
        ("[trainpr]\nepochs = 3", ("[trainpr]", "train_pr", "neuroclips.toml")),
        ("[train_pr]\nepoch = 3", ("'epoch'", "'epochs'", "batch_size")),
        ("subjet = 3", ("'subjet'", "'subject'")),
        ('[train_pr]\nepochs = "3"', ("train_pr.epochs", "a whole number")),
        ("[train_pr]\nepochs = true", ("a whole number",)),
        ("[train_pr]\nepochs = 2.5", ("a whole number",)),
        ("[train_pr]\nepochs = 0", ("at least 1",)),
        ("[train_pr]\nlearning_rate = 0", ("above 0",)),
        ("[train_pr]\nlearning_rate = inf", ("out of range",)),
        ("[perception]\ndropout = 1.5", ("from 0 to 1",)),
        ("[evaluate]\nways = 2", ("a list",)),
        ("[evaluate]\nways = [1]", ("at least 2",)),
        ('[simulate]\ngrayordinates = "big"', ("small, 91k",)),
        ("[train_pr\n", ("not valid TOML",)),
    ],
)
def test_a_slip_in_the_file_is_one_sentence_that_helps(tmp_path, text, parts):
    said = message(tmp_path, text=text)
    assert all(part in said for part in parts), said


def test_an_unknown_variable_is_named_with_its_nearest(tmp_path):
    said = message(tmp_path, environ={"NEUROCLIPS_SUBJET": "2"})
    assert "NEUROCLIPS_SUBJECT" in said


def test_the_tests_own_variable_is_no_setting(tmp_path):
    plain = load(tmp_path, environ={})
    assert load(tmp_path, environ={"NEUROCLIPS_SHARED": "/somewhere"}) == plain


def test_every_key_has_one_variable():
    names = environment_names()
    assert set(names.values()) == set(keys())
    assert names["NEUROCLIPS_SUBJECT"] == "run.subject"
    assert names["NEUROCLIPS_TRAIN_PR_EPOCHS"] == "train_pr.epochs"


@pytest.mark.parametrize("key", keys())
def test_every_field_states_what_it_means_and_accepts(key):
    field = keys()[key]
    assert field.doc.endswith(".")
    assert "\n" not in field.doc
    assert field.accepts
    assert (field.limits is not None) == (field.kind in (int, float))
    assert not (field.unit and field.kind in (str, bool))


def test_a_field_without_documentation_or_limits_is_an_error():
    for wrong in (int, Annotated[int, Range(1)], Annotated[int, Doc("It counts.")], bytes):
        with pytest.raises(TypeError, match="some.key needs"):
            read_field("some.key", wrong)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_refused_with_the_new_one(tmp_path, old, new):
    assert old not in keys()
    assert new in keys()
    section, name = old.split(".")
    said = message(tmp_path, text=f"[{section}]\n{name} = 1\n")
    assert f"{old} is now called {new}" in said
    said = message(tmp_path, flags={old: "1"})
    assert f"{old} is now called {new}" in said
    variables = {key: variable for variable, key in environment_names([old, new]).items()}
    said = message(tmp_path, environ={variables[old]: "1"})
    assert f"{variables[old]} is now called {variables[new]}" in said


def test_sections_are_the_schemas_classes():
    assert {f.name for cls in sections().values() for f in fields(cls)}
    assert list(sections())[0] == "run"


def test_a_section_is_plain_json(settings):
    section = settings.section("train_pr")
    assert json.loads(json.dumps(section)) == section
    assert section["validation_segments"] == [9]


def test_replaced_settings_are_new_and_checked(settings):
    changed = replace_settings(settings, **{"train_pr.epochs": 3})
    assert changed.train_pr.epochs == 3
    assert settings.train_pr.epochs == load_settings(environ={}).train_pr.epochs != 3
    assert changed.origins["train_pr.epochs"] == "flag"
    with pytest.raises(UserError, match="epochs"):
        replace_settings(settings, **{"train_pr.epoch": 3})
    with pytest.raises(ValueError, match="load_settings"):
        replace_settings(settings, **{"run.profile": "paper"})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("0", False)])
def test_a_switch_is_read_from_text(text, value):
    assert (
        load_settings({"train_sr.ridge_closed_form": text}, environ={}).train_sr.ridge_closed_form
        is value
    )


def test_a_switch_takes_nothing_but_true_and_false():
    with pytest.raises(UserError, match="true or false"):
        load_settings({"train_sr.ridge_closed_form": "maybe"}, environ={})
    with pytest.raises(UserError, match="whole number"):
        load_settings({"train_pr.epochs": True}, environ={})


def test_the_variant_lies_between_the_file_and_the_profile(tmp_path):
    flags = {"run.profile": "paper", "run.variant": "released", "semantics.backbone": "mixing"}
    settings = load(tmp_path, flags)
    assert settings.perception.backbone == "released"
    assert settings.origins["perception.backbone"] == "variant released"
    assert settings.semantics.backbone == "mixing"
    assert settings.reconstruct.blur_init == "released"
    assert load(tmp_path, {"run.profile": "paper"}).reconstruct.blur_init == "eq5"


def test_the_released_variant_is_refused_for_the_tiny_profile(tmp_path):
    with pytest.raises(UserError, match="docs/explanation/departures.md"):
        load(tmp_path, {"run.variant": "released"})


def test_every_line_of_the_released_variant_departs_from_the_paper(tmp_path):
    paper = load(tmp_path, {"run.profile": "paper"})
    released = load(tmp_path, {"run.profile": "paper", "run.variant": "released"})
    lines = [key for key, origin in released.origins.items() if origin == "variant released"]
    assert len(lines) > 15
    assert all(paper.value(key) != released.value(key) for key in lines)
    page = Path(__file__).parents[2] / "docs" / "explanation" / "departures.md"
    document = page.read_text("utf-8")
    for key in lines:
        section, name = key.split(".")
        assert name in document, f"docs/explanation/departures.md does not mention {key}"
