"""Run the documented commands once, in a folder: ``one_pass.py FOLDER PRECISION``."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from command_server import CommandServer
from documented import scripts
from miniature import flags

LOADED = (
    "diffusers.models.unets.unet_motion_model",
    "diffusers.pipelines.pipeline_utils",
    "transformers.models.blip_2.modeling_blip_2",
    "transformers.models.git.modeling_git",
    "open_clip",
    "accelerate",
    "skimage.metrics",
    "nibabel.cifti2",
)
"""What most commands import; loaded once, before the first of them."""


def main() -> int:
    """Run the scripts until one fails; write ``commands.json`` and ``log.txt``."""
    folder, precision = Path(sys.argv[1]), sys.argv[2]
    for name in LOADED:
        __import__(name)
    extra = [f"--set=run.precision={precision}", "--set=run.device=cpu", *flags()]
    code = 0
    with tempfile.TemporaryDirectory() as place:  # a socket's path must be short
        server = CommandServer(Path(place), extra)
        for script in scripts():
            code = code or server.run(script, folder, folder / "log.txt")
    done = [asdict(command) for command in server.done]
    (folder / "commands.json").write_text(json.dumps(done, indent=1))
    return code


if __name__ == "__main__":
    sys.exit(main())
