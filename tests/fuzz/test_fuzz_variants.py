"""Every generator of variants: at least 200 inputs, each read right or refused as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import variants

from neuroclips_cli.errors import UserError


@pytest.mark.parametrize("kind", variants.kinds())
def test_every_variant_is_read_right_or_refused(kind, tmp_path):
    generated = variants.generate(kind, tmp_path / "shared")
    assert len(generated) >= variants.FEWEST
    found = variants.finds(variants.run(generated, tmp_path))
    assert not found, "\n".join(f"{n}: {o.kind}: {o.detail}" for n, o in list(found.items())[:20])


def _outcome(folder: Path, read, expected, **more) -> str:
    variant = variants.Variant("a", lambda folder: folder, read, expected, **more)
    return variants.check(variant, folder).kind


def _refuse(words: str):
    def read(_: Path) -> None:
        raise UserError(words)

    return read


def test_outcomes_tell_a_wrong_answer_from_a_refusal_and_a_crash(tmp_path):
    refusal = variants.Refusal(("a.nii", "affine"))
    assert _outcome(tmp_path, lambda _: 3, 3) == "right"
    assert _outcome(tmp_path, lambda _: 3, lambda folder: len(folder.name)) == "silently wrong"
    assert _outcome(tmp_path, lambda _: 3, refusal) == "silently wrong"
    assert _outcome(tmp_path, _refuse("a.nii has another affine"), refusal) == "right"
    assert _outcome(tmp_path, _refuse("a.nii is bad"), refusal) == "refused"
    assert _outcome(tmp_path, _refuse("a.nii has\nanother affine"), refusal) == "refused"
    assert _outcome(tmp_path, _refuse("a.nii has another affine"), 3) == "refused"
    assert _outcome(tmp_path, _refuse("a.nii: affine"), 3, may_refuse=refusal) == "right"
    assert _outcome(tmp_path, lambda _: 1 / 0, 3) == "crash"


def test_nested_answers_are_compared_in_every_part():
    import numpy as np

    answer = {"a": [np.array([1.0, np.nan]), "x"], "b": np.arange(3)}
    assert variants.equal({"a": [np.array([1.0, np.nan]), "x"], "b": np.arange(3)}, answer)
    assert not variants.equal({"a": [np.array([1.0, 2.0]), "x"], "b": np.arange(3)}, answer)
    assert not variants.equal({"a": [np.array([1.0, np.nan]), "y"], "b": np.arange(3)}, answer)
    assert not variants.equal({"a": [np.array([1.0, np.nan]), "x"], "b": np.arange(4)}, answer)
