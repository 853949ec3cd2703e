"""The command line: options to settings to one stage, exit codes, and what errors look like."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuroclips_cli.cli import commands, help_pages
from neuroclips_cli.cli import main as cli
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import open_stage
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.stages import _launch

COMMANDS = (
    "demo",
    "init",
    "config",
    "status",
    "doctor",
    "models",
    "simulate",
    "preprocess",
    "train-pr",
    "train-projector",
    "train-sr",
    "adapt",
    "reconstruct",
    "decode",
    "fuse",
    "evaluate",
    "controls",
    "compare",
    "interpret",
    "report",
)


def run(*words: str) -> int:
    return cli.run(list(words))


@pytest.fixture
def called(monkeypatch) -> list:
    """Replace the stages' recipes; collect what they are called with."""
    import importlib

    calls: list = []
    monkeypatch.setattr(_launch, "REQUESTS", {})
    for name in ("preprocess", "train_pr", "train_sr", "reconstruct", "fuse", "simulate"):
        module = importlib.import_module(f"neuroclips_cli.stages.{name}")
        monkeypatch.setattr(module, "run", lambda *a, **k: calls.append((a, k)))
    return calls


def finished(stage: str, settings=None, sections=("data",), **inputs) -> None:
    """Make an empty finished stage in ./runs."""
    settings = settings or load_settings(environ={})
    with open_stage(settings, stage, sections=sections, inputs=inputs):
        pass


def test_help_lists_the_commands_and_imports_nothing_heavy():
    program = (
        "import sys\nfrom neuroclips_cli.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'nibabel', 'rich.console'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    source = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f" {command} " in done.stdout


def test_the_list_of_commands_is_complete():
    folder = Path(commands.__file__).parent
    modules = {p.stem for p in folder.glob("*.py") if "\n@command(" in p.read_text("utf-8")}
    assert {name.replace("-", "_") for name in commands.COMMANDS} == modules
    assert set(commands.COMMANDS) == set(COMMANDS)


@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"),
    [
        ("neuroclips rec", "reconstruct", "preprocess"),
        ("neuroclips reconstruct --cap", "--captioner", "--clips"),
        ("neuroclips models ", "pull", "reconstruct"),
    ],
)
def test_shell_completion_knows_commands_and_their_options(typed, offered, not_offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from neuroclips_cli.cli.main import app; app(prog_name='neuroclips')",
        ],
        env={
            **os.environ,
            **words,
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "_NEUROCLIPS_COMPLETE": "complete_bash",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert offered in done.stdout
    assert not_offered not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_the_common_options(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    words = ("models", "list") if command == "models" else (command,)
    assert run(*words, "--help") == 0
    out = capsys.readouterr().out
    assert command == "models" or commands.COMMANDS[command].help in out
    for option in ("--subject", "--participant-label", "--workdir", "--seed", "--set", "--quiet"):
        assert option in out


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("words", [(), ("preprocess",), ("models",), ("models", "convert")])
def test_help_fits_the_terminal_under_its_headings(words, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(*words, "--help") == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= min(columns, help_pages.MOST_COLUMNS)
    headings = [line for line in page.splitlines() if line.endswith(":") and line[0] != " "]
    assert (
        headings
        == {
            (): ["Options:", "Start here:", "Set up:", "Pipeline:"],
            ("preprocess",): ["Options:", "Common options:"],
            ("models",): ["Options:", "Commands:"],
            ("models", "convert"): ["Arguments:", "Options:", "Common options:"],
        }[words]
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train-sr --foo", "No such option: --foo"),
        ("train-sr --seed x", "Invalid value for '--seed'"),
        ("models convert", "Missing argument 'file'"),
        ("recons", "No such command 'recons'. Did you mean 'reconstruct'?"),
    ],
)
def test_a_slip_on_the_command_line_is_one_sentence_after_the_usage(words, sentence, capsys):
    assert run(*words.split()) == 2
    usage, hint, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("Usage: ")
    assert hint.endswith(" -h' for help.")
    assert error.startswith(f"Error: {sentence}")


def test_nothing_asked_shows_the_help(capsys):
    assert run() == 2
    assert "Start here:" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("neuroclips 0.")


def test_options_become_settings(called):
    assert run("preprocess", "--participant-label", "02", "--delay", "6", "--regions", "V1,V2") == 0
    ((settings,), options) = called[0]
    assert settings.run.subject == 2
    assert settings.data.delay_s == 6
    assert settings.data.regions == ("V1", "V2")
    assert options == {"overwrite": False}


def test_set_reaches_every_setting_and_gives_way_to_the_dedicated_option(called):
    words = ("--set", "train_pr.epochs=3", "--set", "perception.dropout=0.5", "--epochs", "4")
    assert run("train-pr", *words, "--overwrite") == 0
    ((settings,), options) = called[0]
    assert (settings.train_pr.epochs, settings.perception.dropout) == (4, 0.5)
    assert options == {"checkpoint": None, "overwrite": True}


def test_stage_options_are_handed_on(called):
    assert run("reconstruct", "--without", "keyframe", "--clips", "0:50") == 0
    assert called[0][1] == {"without": "keyframe", "clips": "0:50", "overwrite": False}
    assert run("train-sr", "--phase", "prior") == 0
    assert called[1][1] == {"phase": "prior", "checkpoint": None, "overwrite": False}
    assert run("simulate", "data", "--noise", "2", "--grayordinates", "91k") == 0
    (settings, folder), options = called[2]
    assert folder == Path("data")
    assert (settings.simulate.noise_scale, settings.simulate.grayordinates) == (2, "91k")
    assert options == {"stimuli": None, "overwrite": False}


def test_a_later_stage_inherits_profile_settings_and_data_set(called):
    made = {"run.profile": "paper", "data.delay_s": 6, "run.dataset": "films"}
    finished("preprocess", load_settings(made, environ={}))
    assert run("train-pr") == 0
    settings = called[0][0][0]
    assert settings.run.profile == "paper"
    assert settings.train_pr.epochs == 150
    assert (settings.data.delay_s, settings.run.dataset) == (6, "films")
    assert settings.origins["data.delay_s"] == "run folder (preprocess)"


def test_the_variant_of_a_training_holds_for_what_follows_it(called):
    paper = {"run.profile": "paper"}
    finished("preprocess", load_settings(paper, environ={}))
    finished("train-pr", load_settings(paper | {"run.variant": "released"}, environ={}))
    assert run("reconstruct") == 0
    assert run("reconstruct", "--variant", "paper") == 0
    chosen = [call[0][0].reconstruct.blur_init for call in called]
    assert chosen == ["released", "eq5"]


def test_training_options_need_not_be_repeated_for_later_stages(called):
    finished("preprocess")
    changed = load_settings({"train_pr.epochs": 3}, environ={})
    finished("train-pr", changed, sections=("train_pr",))
    assert run("reconstruct") == 0
    assert called[0][0][0].train_pr.epochs == 3
    assert run("train-pr") == 0
    assert called[1][0][0].train_pr.epochs == load_settings(environ={}).train_pr.epochs


def test_a_contradictory_profile_is_refused_in_one_sentence(called, capsys):
    finished("preprocess", load_settings({"run.profile": "paper"}, environ={}))
    assert run("train-pr", "--profile", "tiny") == 2
    err = capsys.readouterr().err
    assert "was made with profile paper" in err
    assert err.count("\n") == 1
    assert called == []


def test_preprocess_again_keeps_the_profile_unless_told_otherwise(called):
    finished("preprocess", load_settings({"run.profile": "compact"}, environ={}))
    assert run("preprocess") == 0
    assert run("preprocess", "--profile", "tiny") == 0
    assert [call[0][0].run.profile for call in called] == ["compact", "tiny"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("train-pr", "--profile", "tyni"), "'tiny'"),
        (("train-pr", "--set", "train_pr.epoch=3"), "'epochs'"),
        (("train-pr", "--set", "epochs"), "section.key=value"),
        (("train-pr", "--subject", "x"), "write 1, 01 or sub-01"),
        (("train-pr",), "neuroclips preprocess"),
        (("evaluate", "--pred", "x"), "--gt"),
        (("demo", "--profile", "paper"), "tiny"),
    ],
)
def test_what_the_user_can_correct_is_one_sentence_and_exit_code_2(words, part, capsys):
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize(
    "words",
    [("tain-pr",), ("train-pr", "--epoks", "3"), ("train-sr", "--phase", "x"), ("simulate",)],
)
def test_a_slip_on_the_command_line_is_exit_code_2(words, capsys):
    assert run(*words) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (UserError("the film is too short"), 2, "Error: the film is too short"),
        (KeyboardInterrupt(), 130, "run the same command again to continue"),
        (OSError(errno.ENOSPC, "No space left on device", "a.npy"), 2, "while writing"),
        (PermissionError(errno.EACCES, "denied", "a.npy"), 2, "no permission for a.npy"),
        (MemoryError(), 2, "smaller batch size"),
        (RuntimeError("surprise"), 1, "this is a bug in neuroclips"),
    ],
)
def test_exit_codes_say_whose_turn_it_is(monkeypatch, capsys, error, code, part):
    from neuroclips_cli.cli import init

    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(init, "run", fail)
    assert run("init") == code
    err = capsys.readouterr().err
    assert part in err
    assert ("Traceback" in err) == (code == 1)


def test_init_writes_a_file_that_changes_nothing_but_four_lines(capsys, tmp_path):
    words = ("init", "--profile", "compact", "--subject", "2", "--dataset", 'a "b" \\ c')
    assert run(*words) == 0
    settings = load_settings(environ={})
    assert (settings.run.profile, settings.run.subject) == ("compact", 2)
    assert settings.run.dataset == 'a "b" \\ c'
    own = {k for k, origin in settings.origins.items() if origin == "neuroclips.toml"}
    assert own == {"run.profile", "run.subject", "run.dataset", "run.workdir"}
    assert settings == load_settings(
        {"run.profile": "compact", "run.subject": 2, "run.dataset": 'a "b" \\ c'},
        folder=tmp_path / "nowhere",
        environ={},
    )


def test_every_commented_line_of_init_is_a_valid_setting(tmp_path):
    run("init")
    path = Path("neuroclips.toml")
    lines = path.read_text().splitlines()
    active = [ln.removeprefix("# ") if " = " in ln and '"# key' not in ln else ln for ln in lines]
    path.write_text("\n".join(active))
    settings = load_settings(environ={})
    assert set(settings.origins.values()) == {"neuroclips.toml"}
    assert settings == load_settings(folder=tmp_path / "nowhere", environ={})


def test_init_does_not_replace_a_file_unasked(capsys):
    assert run("init") == 0
    assert run("init") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("init", "--overwrite") == 0


def test_config_shows_values_and_origins(capsys, monkeypatch):
    monkeypatch.setenv("NEUROCLIPS_SEED", "5")
    assert run("config", "--json", "--set", "fuse.epochs=2") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["run"]["seed"] == 5
    assert shown["origins"]["run.seed"] == "environment"
    assert shown["origins"]["fuse.epochs"] == "flag"
    assert run("config") == 0
    out = capsys.readouterr().out
    assert "train_pr.epochs" in out
    assert "profile tiny" in out


def test_config_explains_the_settings_and_sections_it_is_asked_about(capsys):
    assert run("config", "data.tr_s", "fuse") == 0
    out = capsys.readouterr().out
    assert "Repetition time" in out
    assert "number, above 0, in s" in out
    assert "fuse.epochs" in out
    assert "train_pr.epochs" not in out
    assert run("config", "--json", "data.tr_s") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"] == {"data": {"tr_s": 2.0}}
    assert shown["fields"]["data.tr_s"]["unit"] == "s"
    assert run("config", "data.tr") == 2
    assert "did you mean 'data.tr_s'" in capsys.readouterr().err


def test_status_tells_done_stale_interrupted_and_missing(capsys, tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films/a").write_text("a")
    settings = load_settings(environ={})
    finished("preprocess", dataset=tmp_path / "films")
    with (
        pytest.raises(RuntimeError),
        open_stage(settings, "train-pr", sections=[], inputs={}) as stage,
    ):
        stage.write_text("half", "half")
        raise RuntimeError
    finished("reconstruct-without-blurry")
    finished("reconstruct-control-vae")
    finished("train-projector")

    def states() -> dict[str, str]:
        assert run("status", "--json") == 0
        return {ln["stage"]: ln["state"] for ln in json.loads(capsys.readouterr().out)}

    found = states()
    assert found["preprocess"] == "done"
    assert found["train-pr"] == "interrupted"
    assert found["train-sr"] == "missing"
    assert found["reconstruct-without-blurry"] == found["reconstruct-control-vae"] == "done"
    assert found["train-projector"] == "done"
    (tmp_path / "films/a").write_text("b")
    assert states()["preprocess"] == "stale"
    assert run("status") == 0
    assert "input dataset changed" in capsys.readouterr().out


def test_status_of_a_pool_has_its_trainings_once_and_its_subjects_alone(capsys):
    def listed(*words: str) -> set[tuple[str, str, str]]:
        assert run("status", "--json", *words) == 0
        found = json.loads(capsys.readouterr().out)
        assert len(found) == len({(line["subject"], line["stage"]) for line in found})
        return {(line["subject"], line["stage"], line["state"]) for line in found}

    for subject in (1, 2, 3):
        finished("preprocess", load_settings({"run.subject": subject}, environ={}))
    pool = load_settings({"run.subjects": (1, 2)}, environ={})
    extra = {"subjects": [1, 2]}
    with open_stage(pool, "train-sr", sections=[], inputs={}, extra=extra):
        pass
    decoder = ("--decoder", "pool-01-02")
    found = listed(*decoder)
    assert {subject for subject, *_ in found} == {"sub-01", "sub-02", "pool-01-02"}
    assert {line for line in found if line[1].startswith("train")} == {
        ("pool-01-02", "train-pr", "missing"),
        ("pool-01-02", "train-sr", "done"),
    }
    assert ("sub-02", "preprocess", "done") in found
    # a subject that it was not trained on counts as soon as it was decoded
    finished(
        "reconstruct", load_settings({"run.decoder": decoder[1], "run.subject": 3}, environ={})
    )
    assert ("sub-03", "reconstruct", "done") in listed(*decoder)
    assert {subject for subject, *_ in listed(*decoder, "--subject", "2")} == {"sub-02", decoder[1]}
    # without a decoder's name, what there is of it follows the subjects
    assert ("pool-01-02/sub-03", "reconstruct", "done") in listed()


def test_compare_takes_one_subject_over_minutes_and_evaluate_of_several(capsys):
    for words, message in (
        (("--over", "minutes", "--subjects", "1,2"), "name the one with --subject"),
        (("--subjects", "1,2"), "compare needs evaluate of sub-01"),
        ((), "give --subjects or --over minutes"),
    ):
        assert run("compare", *words) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_status_verify_finds_damage(capsys):
    with open_stage(load_settings(environ={}), "preprocess", sections=[], inputs={}) as stage:
        path = stage.write_text("a.txt", "a")
    assert run("status", "--verify") == 0
    path.write_text("b")
    assert run("status", "--verify") == 2
    assert "a.txt was altered" in capsys.readouterr().err


def test_doctor_names_a_data_set_that_is_not_there(capsys):
    assert run("doctor", "--dataset", "nowhere", "--device", "cpu") == 2
    out = capsys.readouterr().out
    assert "nowhere is not a folder" in out
    assert "Python" in out


def test_a_closed_pipe_is_no_error():
    source = str(Path(__file__).resolve().parents[2])
    script = f"{sys.executable} -m neuroclips_cli config | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_one_of_several_processes_is_refused_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.run(["status"]) == 2
    said = capsys.readouterr().err
    assert "2 processes" in said and "status runs in one" in said
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert cli.run(["train-sr"]) == 2
    assert "FSDP" in capsys.readouterr().err
