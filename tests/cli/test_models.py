"""models list and pull, against a server on this machine that answers as the hub does."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest
import random_backbones as tiny
import torch
from safetensors.torch import load_file

from neuroclips_cli.backbones import hub as hub_module
from neuroclips_cli.backbones import local_files
from neuroclips_cli.cli import models
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import MEBIBYTE
from neuroclips_cli.settings.load import load_settings

ROOT = Path(__file__).parents[2]
HEADER = b'{"a":{"dtype":"U8","shape":[12582912],"data_offsets":[0,12582912]}}'
WITHOUT_PAUSES = """
import sys
from neuroclips_cli.backbones import hub
from neuroclips_cli.cli.main import main
hub.PAUSES_S = (0.0, 0.0)
sys.argv[0] = "neuroclips"
sys.exit(main())
"""
"""The command, which begins again at once after a lost connection."""
BIG = struct.pack("<Q", len(HEADER)) + HEADER + bytes(range(256)) * 49152
"""A weight file longer than the pieces in which the library writes a download."""


@pytest.fixture(scope="module")
def vae_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("vae")
    tiny.save_vae(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    extra = {"README.md": b"card", "diffusion_pytorch_model.fp16.safetensors": b"other precision"}
    return {**files, **extra, "diffusion_pytorch_model.bin": b"pickle"}


@pytest.fixture
def hub(vae_files):
    server = fake_hub.FakeHub()
    server.repositories["models/owner/vae"] = vae_files
    yield server
    server.close()


def command(hub: fake_hub.FakeHub, *words: str, offline: bool = False, **settings: str):
    """Run the command in a process of its own: the library reads its environment once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "NEUROCLIPS"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": "hf", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    flags = [f"--set=backbones.{key}={value}" for key, value in settings.items()]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PAUSES, "models", *words, *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def one_sentence(result) -> str:
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


def snapshot() -> Path:
    return Path("hf/hub/models--owner--vae/snapshots") / fake_hub.COMMIT


def test_pull_fetches_only_what_is_loaded_and_the_loaders_then_find_it(hub, vae_files):
    result = command(hub, "pull", "vae", vae="owner/vae")
    assert result.returncode == 0, result.stderr
    assert "complete and checked" in result.stderr
    assert sorted(f.name for f in snapshot().iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    listed = command(hub, "list", "vae", offline=True, vae="owner/vae")
    assert listed.returncode == 0 and "complete" in listed.stdout

    from neuroclips_cli.backbones.vae import load_vae

    assert load_vae(str(snapshot())).config.latent_channels == 4


def test_an_interrupted_download_goes_on_and_a_damaged_one_is_fetched_again(hub):
    name = "diffusion_pytorch_model.safetensors"
    hub.repositories["models/owner/vae"] = vae_files = {"config.json": b"{}", name: BIG}
    hub.cut[name] = len(BIG) - 1000
    result = command(hub, "pull", "vae", vae="owner/vae")
    assert result.returncode == 0, result.stderr
    spans = [span for _, path, span in hub.asked if path.endswith(name) and span]
    assert any(int(span[6:].split("-")[0]) >= 10 * MEBIBYTE for span in spans)
    assert (snapshot() / name).read_bytes() == BIG

    whole = (snapshot() / name).resolve()
    whole.write_bytes(vae_files[name][:-7])
    listed = command(hub, "list", "vae", offline=True, vae="owner/vae")
    assert "is truncated" in listed.stdout
    assert command(hub, "pull", "vae", vae="owner/vae").returncode == 0
    assert (snapshot() / name).read_bytes() == vae_files[name]

    whole.write_bytes(bytes(len(vae_files[name])))  # right length, other content
    hub.spoiled.add(name)
    said = one_sentence(command(hub, "pull", "vae", vae="owner/vae"))
    assert name in said and "SHA-256" in said


def test_one_that_is_missing_does_not_stop_the_others(hub, vae_files, tmp_path):
    matrix = torch.randn(6, 4)
    torch.save({"proj": matrix}, tmp_path / "x.pth")
    hub.repositories["datasets/gongzx/cc2017_dataset"] = {
        "coco_tokens_avg_proj.pth": (tmp_path / "x.pth").read_bytes()
    }
    hub.repositories["models/owner/other"] = vae_files
    chosen = {
        "vae": "owner/nothing",
        "keyframe_vae": "owner/other",
        "projector": "./models/projector",
        "unclip": "./models/unclip",
        "scene_unet": "owner/vae",
    }
    result = command(hub, "pull", *chosen, **chosen)
    said = one_sentence(result)
    assert "2 of 5 backbones could not be fetched, all others are complete" in said
    assert "vae (the hub has no repository 'owner/nothing'" in said
    assert "unclip (the hub has no repository 'pscotti/mindeyev2'" in said
    listed = command(hub, "list", *chosen, offline=True, **chosen).stdout
    assert sum("complete" in line for line in listed.splitlines()) == 3
    found = load_file(tmp_path / "models" / "projector" / "projector.safetensors")
    assert torch.equal(found["weight"], matrix)
    source = json.loads((tmp_path / "models" / "projector" / "source.json").read_text())
    assert source["revision"] == fake_hub.COMMIT


def test_a_repository_that_moved_is_refused_unless_asked(hub, vae_files):
    def state(*words: str):
        return command(hub, *words, vae="owner/vae")

    assert state("pull", "vae").returncode == 0
    moved = "fedcba9876543210fedcba9876543210fedcba98"
    hub.commits["models/owner/vae"] = moved
    assert state("pull").returncode in (0, 2)  # what is complete is not asked about
    before = local_commit()
    assert before == fake_hub.COMMIT
    said = one_sentence(state("pull", "vae"))
    assert f"from commit {fake_hub.COMMIT[:12]} to {moved[:12]}" in said and "--update" in said
    assert local_commit() == before
    assert state("pull", "vae", "--update").returncode == 0
    assert local_commit() == moved
    at_first = command(hub, "list", "vae", offline=True, vae=f"owner/vae@{before[:8]}")
    assert before in at_first.stdout and "complete" in at_first.stdout


def local_commit() -> str:
    return Path("hf/hub/models--owner--vae/refs/neuroclips").read_text()


def test_a_lost_connection_is_tried_again_and_then_listed(hub, vae_files):
    name = "diffusion_pytorch_model.safetensors"
    hub.repositories["models/owner/vae"] = {"config.json": b"{}", name: BIG}
    hub.repositories["models/owner/dead"] = vae_files
    hub.dead.add("models/owner/dead")
    chosen = {"keyframe_vae": "owner/dead", "vae": "owner/vae"}
    said = one_sentence(command(hub, "pull", *chosen, **chosen))
    assert "1 of 2 backbones could not be fetched" in said
    assert "'owner/dead' could not be fetched" in said and "check the network" in said
    tries = [path for _, path, _ in hub.asked if "owner/dead" in path]
    assert len(tries) >= 3
    assert (snapshot() / name).read_bytes() == BIG


def test_a_fetch_goes_on_after_two_lost_connections_and_gives_up_after_three(monkeypatch):
    lost = hub_module._connection_errors()[-1]
    monkeypatch.setattr(hub_module, "PAUSES_S", (0.0, 0.0))
    counted = []

    def fetch(until: int) -> str:
        counted.append(until)
        if len(counted) < until:
            raise lost("gone")
        return "all of it"

    assert hub_module.persistently(lambda: fetch(3)) == "all of it"
    counted.clear()
    with pytest.raises(lost):
        hub_module.persistently(lambda: fetch(4))
    assert len(counted) == 3


def test_gated_missing_offline_and_unreachable_are_one_sentence_each(hub):
    hub.gated.add("models/owner/vae")
    said = one_sentence(command(hub, "pull", "vae", vae="owner/vae"))
    assert "gated" in said and "HF_TOKEN" in said
    assert "no repository 'owner/nothing'" in one_sentence(
        command(hub, "pull", "vae", vae="owner/nothing")
    )
    said = one_sentence(command(hub, "pull", "vae", offline=True, vae="owner/vae"))
    assert "HF_HUB_OFFLINE" in said
    hub.gated.clear()
    hub.repositories["models/owner/vae"] = {"config.json": b"{}", "a.bin": b"pickle"}
    assert "no safetensors" in one_sentence(command(hub, "pull", "vae", vae="owner/vae"))
    hub.close()
    said = one_sentence(command(hub, "pull", "vae", vae="owner/vae"))
    assert "could not be fetched" in said and "network" in said


def test_a_missing_folder_is_made_from_the_authors_file(hub, tmp_path):
    state = {"linear1.weight": torch.ones(5, 6), "linear1.bias": torch.ones(5)}
    state |= {"linear2.weight": torch.ones(3, 8), "linear2.bias": torch.ones(3)}
    torch.save({"model_state_dict": state}, tmp_path / "x.pth")
    hub.repositories["datasets/pscotti/mindeyev2"] = {
        "bigG_to_L_epoch8.pth": (tmp_path / "x.pth").read_bytes()
    }
    result = command(hub, "pull", "git_tokens", git_tokens="./models/git_tokens")
    assert result.returncode == 0, result.stderr
    found = load_file(tmp_path / "models" / "git_tokens" / "tokens.safetensors")
    assert set(found) == set(state)
    before = len(hub.asked)
    there = load_settings({"backbones.git_tokens": "./models/git_tokens"}, environ={})
    models.pull_models(there, ["git_tokens"])
    assert len(hub.asked) == before


def listed(settings, capsys, *names: str) -> str:
    models.list_models(settings, names)
    return capsys.readouterr().out


def test_list_says_size_license_place_and_what_is_lacking(capsys, tmp_path):
    paper = load_settings({"run.profile": "paper"}, environ={})
    text = listed(paper, capsys)
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
    assert "15.5 GB" in rows["captioner"] and "mit" in rows["captioner"]
    assert "unknown" in rows["unclip"] and "missing" in rows["unclip"]
    embedded = listed(load_settings({}, environ={}), capsys)
    assert embedded.count("complete") == 11
    assert embedded.count("missing") == 3  # the evaluators of protocol standard

    folder = tmp_path / "vae"
    tiny.save_vae(folder)
    flags = {"backbones.vae": str(folder)}
    assert "complete" in listed(load_settings(flags, environ={}), capsys, "vae")
    (folder / "config.json").unlink()
    assert "lacks config.json" in listed(load_settings(flags, environ={}), capsys, "vae")
    with pytest.raises(UserError, match="no backbone 'vea'.*'vae'"):
        models.list_models(paper, ["vea"])


def test_a_missing_shard_is_named(tmp_path):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert local_files.problem_of("captioner", tmp_path) == "lacks model-00001-of-00002.safetensors"
