"""A short sample of the fuzzing campaign; ``fuzz.py`` runs the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from readers import READERS

SAMPLE = 100


@pytest.mark.skipif(sys.platform != "linux", reason="limits a child's memory as Linux does")
def test_readers_take_a_mutated_file_or_refuse_it_in_one_sentence():
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, str(script), "--count", str(SAMPLE), "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in READERS:
        assert f"{name}: {SAMPLE} files, 0 finds" in done.stdout
