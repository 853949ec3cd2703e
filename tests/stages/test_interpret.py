"""interpret: voxel weights as maps, per region, and as pictures."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from neuroclips_cli.cli import main as cli
from neuroclips_cli.data import surfaces
from neuroclips_cli.data.brain_maps import write_scalars
from neuroclips_cli.data.regions import plain_name
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics.roi import scaled, voxel_weights
from neuroclips_cli.models.backbone import RidgeRegression
from neuroclips_cli.reporting.flatmap import GREY, Panel, colors, draw
from neuroclips_cli.runs import manifest
from neuroclips_cli.runs.stage import open_stage, read_csv, read_json, stage_state
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.stages import interpret

SIDE = 12  # vertices of one side of a square hemisphere
MESH = SIDE**2
STEP = 2  # every second vertex is a grayordinate
HALF = MESH // STEP  # grayordinates of one hemisphere


def models(mesh: int = MESH):
    axes = [
        nib.cifti2.BrainModelAxis.from_surface(np.arange(0, mesh, STEP), mesh, name)
        for name in ("CORTEX_LEFT", "CORTEX_RIGHT")
    ]
    return axes[0] + axes[1]


def write_run(
    workdir: Path,
    *,
    trained: int | None = None,
    mesh: int = MESH,
    released: bool = False,
    more: nib.cifti2.BrainModelAxis | None = None,
) -> None:
    """Write preprocess with every third voxel selected, and two trained ridge layers."""
    axis = models(mesh) if more is None else models(mesh) + more
    chosen = load_settings({"run.workdir": str(workdir)}, folder=workdir, environ={})
    selected = np.arange(len(axis)) % 3 == 0
    count = trained or int(selected.sum())
    with open_stage(chosen, "preprocess", sections=["data"], inputs={}) as stage:
        with stage.atomic("selection.npz") as path:
            np.savez(path, columns=np.arange(len(axis)), selected=selected)
        with stage.atomic("selection.dscalar.nii") as path:
            write_scalars(path, axis, ["selected"], selected[None].astype(np.float32))
    for number, name in enumerate(("train-pr", "train-sr")):
        with open_stage(chosen, name, sections=[], inputs={}) as stage:
            layer = np.linspace(1, 3, count) if number == 0 else np.linspace(3, 1, count)
            weights = torch.from_numpy(np.stack([layer, -layer])).float()
            ridge = "ridge1" if released and number == 0 else "ridge"
            stage.write_safetensors("model.safetensors", {f"{ridge}.linears.0.weight": weights})


def write_labels(path: Path, names: tuple[str, ...] = ("L_V1_ROI", "R_MT_ROI", "L_4_ROI")) -> Path:
    """Label the left front V1, the left rest motor cortex, the right hemisphere MT."""
    keys = np.repeat([1, 3, 2], [HALF // 2, HALF - HALF // 2, HALF])
    table = {0: ("???", (0, 0, 0, 0))}
    table |= {key: (name, (1, 0, 0, 1)) for key, name in enumerate(names, start=1)}
    header = (nib.cifti2.LabelAxis(["areas"], [table]), models())
    image = nib.cifti2.Cifti2Image(keys[None].astype(np.float32), header=header)
    image.update_headers()
    image.to_filename(path)
    return path


def write_surface(path: Path, side: int = SIDE, *, bump: float = 0.0, cut: bool = False) -> Path:
    """Write a square grid of vertices; with ``cut`` the last row belongs to no triangle."""
    row, column = np.divmod(np.arange(side**2), side)
    points = np.stack([column, row, bump * (row % 5)], axis=1).astype(np.float32)
    corner = np.array([i for i in range(side**2 - side) if i % side < side - 1])
    corner = corner[corner < (side - 2) * side] if cut else corner
    if cut:
        points[-side:, 2] = 99
    triangles = np.concatenate(
        [np.stack([corner, corner + 1, corner + side], 1)]
        + [np.stack([corner + 1, corner + side, corner + side + 1], 1)]
    ).astype(np.int32)
    arrays = [
        nib.gifti.GiftiDataArray(points, intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(triangles, intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
    return path


@pytest.fixture
def made(tmp_path):
    write_run(tmp_path / "runs")
    return tmp_path / "runs" / "sub-01" / "interpret"


def chosen():
    return load_settings(environ={})


def test_weights_are_the_mean_absolute_ridge_weights(tmp_path):
    from safetensors.torch import save_file

    layer = RidgeRegression(7, 5)
    save_file({f"ridge.{k}": v for k, v in layer.state_dict().items()}, tmp_path / "m.safetensors")
    expected = layer.linears[0].weight.detach().abs().mean(dim=0).numpy()
    found = voxel_weights(tmp_path / "m.safetensors")
    assert found == pytest.approx(expected, rel=1e-6)
    assert (scaled(found).min(), scaled(found).max()) == (0, 1)
    assert scaled(np.ones(3)).tolist() == [0, 0, 0]
    with pytest.raises(UserError, match="run the training command"):
        voxel_weights(tmp_path / "gone.safetensors")
    (tmp_path / "m.safetensors").write_bytes(b"garbage")
    with pytest.raises(UserError, match="train again"):
        voxel_weights(tmp_path / "m.safetensors")


def test_the_released_perception_network_is_interpreted_too(tmp_path):
    write_run(tmp_path / "runs", released=True)
    assert cli.run(["interpret"]) == 0
    folder = tmp_path / "runs" / "sub-01" / "interpret"
    data = np.asarray(nib.load(folder / "weights.dscalar.nii").dataobj)
    selected = np.arange(2 * HALF) % 3 == 0
    assert data[0, selected] == pytest.approx(np.linspace(0, 1, selected.sum()), abs=1e-6)
    from safetensors.torch import save_file

    save_file({"other": torch.ones(2, 2)}, tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="neither ridge.linears.0.weight nor ridge1"):
        voxel_weights(tmp_path / "m.safetensors")


def test_maps_lie_on_the_runs_own_brain_model(made, capsys):
    assert cli.run(["interpret"]) == 0
    image = nib.load(made / "weights.dscalar.nii")
    assert list(image.header.get_axis(0).name) == ["perception", "semantics"]
    assert image.header.get_axis(1) == models()
    data = np.asarray(image.dataobj)
    selected = np.arange(2 * HALF) % 3 == 0
    assert np.all(data[:, ~selected] == 0)
    assert data[0, selected] == pytest.approx(np.linspace(0, 1, selected.sum()), abs=1e-6)
    assert data[1, selected] == pytest.approx(np.linspace(1, 0, selected.sum()), abs=1e-6)
    said = " ".join(capsys.readouterr().err.split())
    assert "give a label file with --labels" in said
    assert "give --surface-left and --surface-right" in said
    assert not (made / "weights.png").exists()
    assert len(read_csv(made / "voxels.csv")) == selected.sum()
    assert cli.run(["interpret"]) == 0
    assert "up to date" in capsys.readouterr().err


def test_regions_and_lower_against_higher_areas(made, tmp_path, capsys):
    labels = write_labels(tmp_path / "areas.dlabel.nii")
    assert cli.run(["interpret", "--labels", str(labels)]) == 0
    rows = {row["region"]: row for row in read_csv(made / "regions.csv")}
    assert {name: row["area"] for name, row in rows.items()} == {
        "L_4_ROI": "",
        "L_V1_ROI": "lower",
        "R_MT_ROI": "higher",
    }
    assert sum(int(row["voxels"]) for row in rows.values()) == np.sum(np.arange(2 * HALF) % 3 == 0)
    areas = {row["area"]: row for row in read_csv(made / "areas.csv")}
    assert list(areas) == ["lower", "higher", "lower / higher"]
    for name in ("perception_scaled", "semantics"):
        low, high = (float(areas[area][name]) for area in ("lower", "higher"))
        assert float(areas["lower / higher"][name]) == pytest.approx(low / high, rel=1e-4)
    assert float(areas["lower / higher"]["perception"]) < 1
    assert float(areas["lower / higher"]["semantics"]) > 1
    assert "lower / higher" in capsys.readouterr().out
    own = ["--labels", str(labels), "--lower", "4", "--higher", "L_V1_ROI"]
    assert cli.run(["interpret", *own]) == 0
    areas = {row["area"]: row for row in read_csv(made / "areas.csv")}
    assert int(areas["higher"]["voxels"]) == int(rows["L_V1_ROI"]["voxels"])


def test_flat_surfaces_make_a_picture_with_colors_where_voxels_are(made, tmp_path):
    from PIL import Image

    left = write_surface(tmp_path / "left.surf.gii", cut=True)
    right = write_surface(tmp_path / "right.surf.gii")
    words = ["--surface-left", str(left), "--surface-right", str(right)]
    assert cli.run(["interpret", *words]) == 0
    picture = np.asarray(Image.open(made / "weights.png")).astype(int)
    middle = picture.shape[1] // 2
    # perception grows from left to right hemisphere, semantics falls
    top, bottom = picture[40:500], picture[600:1050]
    colored = [np.ptp(part, axis=-1) > 20 for part in (top, bottom)]
    light = [
        [part[:, half][mask[:, half]].mean() for half in (slice(middle), slice(middle, None))]
        for part, mask in zip((top, bottom), colored, strict=True)
    ]
    assert light[0][1] > light[0][0] + 50
    assert light[1][0] > light[1][1] + 50


def test_wrong_files_are_one_sentence_and_leave_the_earlier_result(made, tmp_path):
    assert cli.run(["interpret", "--quiet"]) == 0
    flat = write_surface(tmp_path / "flat.surf.gii")
    other = write_surface(tmp_path / "other.surf.gii", side=9)
    bent = write_surface(tmp_path / "bent.surf.gii", bump=3.0)
    labels = write_labels(tmp_path / "areas.dlabel.nii")
    Choices = interpret.Choices
    for choices, message in (
        (Choices(surfaces=(flat, other)), "--surface-right .* has 81 vertices"),
        (Choices(surfaces=(bent, flat)), "is not flat"),
        (Choices(surfaces=(labels, flat)), "is not a GIFTI surface"),
        (Choices(surfaces=(tmp_path / "none.gii", flat)), "does not exist"),
        (
            Choices(labels=str(made.parent / "preprocess" / "selection.dscalar.nii")),
            "is a map of numbers and no label file",
        ),
        (Choices(labels=str(labels), lower=("V9",)), "has no region V9 .did you mean 'V1'"),
        (Choices(lower=("V1",)), "give --labels too"),
    ):
        with pytest.raises(UserError, match=message):
            interpret.run(chosen(), choices)
    assert stage_state(chosen(), "interpret")[0] == "done"
    assert cli.run(["interpret", "--surface-left", str(flat)]) == 2


def test_a_model_of_other_voxels_is_refused(tmp_path):
    write_run(tmp_path / "runs", trained=5)
    with pytest.raises(UserError, match="trained on 5 voxels"):
        interpret.run(chosen())


def test_the_practice_world_shows_its_own_areas(made, tmp_path, capsys):
    folder = tmp_path / "world" / "subject1"
    folder.mkdir(parents=True)
    areas = np.where(np.arange(2 * HALF) < HALF, "early", "higher")
    centers = np.random.default_rng(0).uniform(-1, 1, (2 * HALF, 2))
    centers[HALF:] = np.nan
    np.savez(folder / "ground_truth.npz", area=areas, receptive_field_center=centers)
    assert cli.run(["interpret", "--dataset", str(tmp_path / "world")]) == 0
    assert (made / "weights.png").stat().st_size > 5000
    rows = {row["area"]: row for row in read_csv(made / "areas.csv")}
    assert float(rows["lower / higher"]["perception"]) < 1
    assert float(rows["lower / higher"]["semantics"]) > 1
    assert "its own areas" in capsys.readouterr().err


def test_subcortical_voxels_are_in_maps_and_count_to_their_structure(tmp_path):
    voxels = np.stack([np.arange(9), np.zeros(9, int), np.zeros(9, int)], axis=1)
    grid = {"affine": np.diag([2.0, 2, 2, 1]), "volume_shape": (9, 1, 1)}
    thalamus = nib.cifti2.BrainModelAxis("THALAMUS_LEFT", voxels, **grid)
    write_run(tmp_path / "runs", more=thalamus)
    sides = tuple(write_surface(tmp_path / f"{side}.surf.gii") for side in "LR")
    labels = str(write_labels(tmp_path / "areas.dlabel.nii"))
    done = interpret.run(chosen(), interpret.Choices(labels=labels, surfaces=sides))
    image = nib.load(done / "weights.dscalar.nii")
    assert image.header.get_axis(1) == models() + thalamus
    regions = [row["region"] for row in read_csv(done / "voxels.csv")]
    assert len(regions) == (2 * HALF + 9) / 3 and regions[-3:] == ["THALAMUS_LEFT"] * 3
    assert regions[:3] == ["L_V1_ROI"] * 3 and (done / "weights.png").is_file()


def test_volumes_get_their_maps_too(tmp_path):
    write_run(tmp_path / "runs")
    folder = tmp_path / "runs" / "sub-01" / "preprocess"
    mask = np.zeros((6, 5, 8), bool)
    mask.flat[: 2 * HALF] = True
    (folder / "selection.dscalar.nii").unlink()
    affine = np.diag([2.0, 2, 2, 1])
    nib.save(nib.Nifti1Image(mask.astype(np.float32)[..., None], affine), folder / "selection.nii")
    record = read_json(folder / "manifest.json")
    del record["seal"]
    manifest.write(folder, {**record, "outputs": {}})
    image = nib.load(interpret.run(chosen()) / "weights.nii")
    assert image.shape == (6, 5, 8, 2)
    assert np.array_equal(image.affine, affine)
    assert np.asarray(image.dataobj)[..., 0].max() == pytest.approx(1)
    with pytest.raises(UserError, match="is of the cortical surface"):
        interpret.run(
            chosen(), interpret.Choices(labels=str(write_labels(tmp_path / "areas.dlabel.nii")))
        )


def test_the_visual_areas_exist_in_hcps_parcellation(shared):
    path = shared / "data" / "hcp_mmp_59412.dlabel.nii"
    table = nib.load(path).header.get_axis(0).label[0]
    names = {plain_name(name) for name, _ in table.values()}
    assert set(interpret.LOWER) | set(interpret.HIGHER) <= names
    assert not set(interpret.LOWER) & set(interpret.HIGHER)


def test_a_template_is_named_or_explained():
    assert "*.flat.32k_fs_LR.surf.gii" in surfaces.template(32492)
    found = surfaces.template(10242)
    if isinstance(found, str):
        assert "pip install 'neuroclips[flatmap]'" in found
    else:
        assert [len(side.points) for side in found] == [10242, 10242]


def test_colors_run_from_dark_to_bright_between_a_quarter_and_three_quarters():
    light = colors(np.array([0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0])).sum(axis=1)
    assert light[0] == light[1] < light[2] < light[3] < light[4] < light[5] == light[6]
    points = np.array([[0.0, 0], [1, 0], [0, 1]])
    panel = Panel("t", points, np.full(3, np.nan), np.array([[0, 1, 2]]))
    assert (np.asarray(draw([[panel]])) == GREY).all(axis=-1).any()
