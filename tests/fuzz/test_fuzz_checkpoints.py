"""Checkpoints in any wrapping give the weights that are in them, or a sentence."""

from __future__ import annotations

import checkpoint_wrappings as wrappings

from neuroclips_cli.backbones.conversion.files import find_weights

COUNT = 300


def test_every_wrapping_gives_its_weights_or_says_what_the_file_holds(tmp_path):
    wrong, kinds = [], set()
    for case in wrappings.cases(COUNT, 20, tmp_path):
        kinds.add(case.name)
        found = wrappings.wrong(case)
        if found:
            wrong.append(f"{case.name} ({case.path.name}): {found}")
        if case.weights is not None:
            assert find_weights(case.path).averaged == case.averaged, case.name
    assert not wrong, f"{len(wrong)} of {COUNT}: {wrong[:5]}"
    assert len(kinds) > 20
