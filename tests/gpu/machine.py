"""What a GPU machine has, and how long the demo's stages took there: for tests/gpu/run.sh."""

from __future__ import annotations

import importlib
import json
import platform
import shutil
import sys
from pathlib import Path

NEEDED = (
    *("numpy", "scipy", "skimage", "nibabel", "av", "decord", "torch", "torchvision"),
    *("diffusers", "transformers", "accelerate", "open_clip", "safetensors", "tensorboard"),
    *("typer", "rich", "filelock", "psutil", "jinja2", "pytest", "pytest_timeout", "ftfy"),
)


def report(device: str) -> int:
    """Print versions of what is needed; 1 where something is missing."""
    print(f"python {platform.python_version()}")
    missing = []
    for name in NEEDED:
        try:
            module = importlib.import_module(name)
        except Exception as problem:  # a library that does not load is as bad as none
            missing.append(f"{name} ({type(problem).__name__}: {problem})")
        else:
            print(f"{name} {getattr(module, '__version__', '')}".strip())
    if missing:
        print("missing: " + "; ".join(missing))
        return 1
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no CUDA device")
        return 1
    if device != "cpu":
        free, total = torch.cuda.mem_get_info()
        print(f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    return 0


def stages(demo: Path, results: Path) -> None:
    """Print the seconds of the demo's stages and its metrics; keep metrics and manifests."""
    print("| stage | state | seconds |\n|---|---|---|")
    for path in sorted(demo.glob("runs/*/*/manifest.json"), key=lambda p: p.stat().st_mtime):
        record = json.loads(path.read_text())
        print(f"| {record['stage']} | {record['state']} | {record['seconds']:.1f} |")
        shutil.copy(path, results / f"{record['stage']}-manifest.json")
    for path in demo.glob("runs/*/evaluate/metrics.json"):
        shutil.copy(path, results / "demo-metrics.json")
        print("\n| metric | mean |\n|---|---|")
        for name, value in json.loads(path.read_text())["metrics"].items():
            print(f"| {name} | {value['mean']:.4f} |")


if __name__ == "__main__":
    if sys.argv[1] == "--stages":
        stages(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(report(sys.argv[1]))
