"""Weight files as trainers and servers leave them: read without running anything, or refused."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from convnext_weights import convnext_state
from safetensors.torch import save_file

from neuroclips_cli.backbones.clip import load_projector
from neuroclips_cli.backbones.conversion import inert
from neuroclips_cli.backbones.conversion.files import find_weights, read_weights
from neuroclips_cli.backbones.conversion.unwrap import unwrap
from neuroclips_cli.backbones.convnext import load_convnext
from neuroclips_cli.cli import main as cli
from neuroclips_cli.errors import UserError


def test_the_case_of_other_wrappings_gives_one_matrix(shared, tmp_path):
    make = shared / "cases" / "weights-in-other-wrappings" / "make.py"
    subprocess.run([sys.executable, str(make), str(tmp_path / "D")], check=True)
    matrices = []
    for path in sorted((tmp_path / "D").glob("*.pth")):
        assert cli.run(["models", "convert", str(path), "--out", f"out/{path.stem}"]) == 0
        matrices.append(load_projector(f"out/{path.stem}"))
    assert len(matrices) == 6
    assert all(torch.equal(matrix, matrices[0]) for matrix in matrices)


def test_an_unknown_wrapping_lists_the_entries_and_entry_names_one(tmp_path, capsys):
    matrix = torch.randn(3, 2)
    torch.save({"student": {"net": {"proj": matrix}}, "epoch": 3}, tmp_path / "x.pth")
    assert cli.run(["models", "convert", "x.pth"]) == 2
    said = capsys.readouterr().err
    assert "'student' (1 entries, 1 tensors)" in said and "'epoch' (int)" in said
    assert cli.run(["models", "convert", "x.pth", "--entry", "student.net"]) == 0
    assert torch.equal(load_projector("./models/projector"), matrix)
    with pytest.raises(UserError, match=r"no 'student.ne': it has 'net'"):
        read_weights(tmp_path / "x.pth", "student.ne")


def test_averaged_weights_are_taken_and_said_so(tmp_path, capsys):
    raw, average = torch.zeros(3, 2), torch.ones(3, 2)
    torch.save({"model": {"proj": raw}, "model_ema": {"proj": average}}, tmp_path / "x.pth")
    assert cli.run(["models", "convert", "x.pth"]) == 0
    assert "averaged over the training steps (EMA)" in capsys.readouterr().err
    assert torch.equal(load_projector("./models/projector"), average)
    flat = {
        "model.diffusion_model.out.2.weight": raw,
        "model_ema.diffusion_modelout2weight": average,
        "model_ema.decay": torch.tensor(0.99),
        "first_stage_model.quant_conv.weight": raw,
    }
    found = unwrap({"state_dict": flat}, "x.ckpt")
    assert found.averaged and len(found.weights) == 2
    assert torch.equal(found.weights["model.diffusion_model.out.2.weight"], average)


def test_vicregls_checkpoint_with_arguments_and_optimizer_loads(tmp_path):
    state = convnext_state(4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    content = {"epoch": 400, "model": state, "args": argparse.Namespace(arch="convnext")}
    content |= {"optimizer": optimizer, "scaler": {}, "path": Path("exp")}
    torch.save(content, tmp_path / "full.pth")
    found = load_convnext(str(tmp_path / "full.pth")).state_dict()["backbone.layernorm.weight"]
    assert torch.equal(found, state["module.backbone.norm.weight"])


def test_a_network_pickled_whole_gives_its_state(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    network.register_buffer("scratch", torch.ones(1), persistent=False)
    torch.save({"epoch": 1, "model": torch.nn.DataParallel(network)}, tmp_path / "x.pth")
    found = read_weights(tmp_path / "x.pth")
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch exploded",)),
        (eval, ("open('exploded', 'w')",)),
        (Path.touch, (Path("exploded"),)),
        (getattr, (Path("exploded"), "touch")),
        (subprocess.run, ("touch exploded",)),
        (torch.hub.load, ("x/y", "z")),
    ],
    ids=lambda call: getattr(call[0], "__name__", ""),
)
def test_nothing_that_a_file_names_is_run(tmp_path, call):
    class Sly:
        def __reduce__(self):
            return call

    for legacy in (False, True):
        torch.save(
            {"model": {"proj": torch.ones(2, 2)}, "x": Sly()},
            "x.pth",
            _use_new_zipfile_serialization=not legacy,
        )
        try:
            found = read_weights(Path("x.pth"))
        except UserError as problem:
            assert "nothing in it was run" in str(problem)
        else:
            assert torch.equal(found["proj"], torch.ones(2, 2))
        assert not Path("exploded").exists()


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    torch.save({"x": argparse.Namespace(), "proj": torch.ones(4, 4)}, "x.pth")
    with zipfile.ZipFile("x.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile("x.pth", "w") as archive:
        for name, content in entries.items():
            # The sizes of the tensor in the pickle: (4, 4) becomes (255, 255).
            archive.writestr(name, content.replace(b"K\x04K\x04\x86", b"K\xffK\xff\x86"))
    with pytest.raises(RuntimeError, match="out of bounds"):
        inert.read_inert(Path("x.pth"))
    with pytest.raises(UserError, match="not a whole weight file"):
        read_weights(Path("x.pth"))


def test_dead_links_programs_and_sharded_files_are_a_sentence(tmp_path):
    Path("weights.pth").symlink_to(".git/annex/objects/ab/cd/weights.pth")
    with pytest.raises(UserError, match="git annex get weights.pth"):
        read_weights(Path("weights.pth"))
    Path("other.pth").symlink_to("nowhere.pth")
    with pytest.raises(UserError, match="link to nowhere.pth"):
        read_weights(Path("other.pth"))
    torch.jit.script(torch.nn.Linear(2, 2)).save("script.pt")
    with pytest.raises(UserError, match="TorchScript"):
        read_weights(Path("script.pt"))
    save_file({"a": torch.ones(2)}, "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(3)}, "model-00002-of-00002.safetensors")
    index = Path("model.safetensors.index.json")
    index.write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", '
        '"b": "model-00002-of-00002.safetensors"}}'
    )
    assert find_weights(index).weights.keys() == {"a", "b"}
    index.write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    with pytest.raises(UserError, match="not beside it"):
        read_weights(index)
