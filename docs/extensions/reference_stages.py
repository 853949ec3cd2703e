"""The page of the stages: what each one reads, what decides it, where its results lie."""

from __future__ import annotations

from collections.abc import Iterable

from neuroclips_cli.runs.pipeline import PIPELINE, StageSpec

HEAD = """\
Stages
======

Every stage is a command and, as a rule, a folder of its name with a ``manifest.json``. A stage
whose inputs and settings did not change returns at once; one that was interrupted continues where
it stopped. A later stage takes over the settings with which the stages before it were run.

"""


def page() -> str:
    """Return the page in reStructuredText."""
    return HEAD + "".join(map(_entry, PIPELINE))


def _entry(spec: StageSpec) -> str:
    """Return one stage's heading and properties."""
    fields = {
        "Needs": _listed(spec.needs),
        "Reads if present": _listed(spec.uses),
        "Decided by": _listed(f"[{name}]" for name in spec.settings),
        "Results": _place(spec),
        "Several processes": "yes" if spec.distributed else "no",
    }
    lines = "".join(f":{name}: {value}\n" for name, value in fields.items() if value)
    return f"{spec.name}\n{'-' * len(spec.name)}\n\n{spec.help}\n\n{lines}\n"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"``{name}``" for name in names)


def _place(spec: StageSpec) -> str:
    """Return where the results lie."""
    if not spec.folder:
        return "no folder of its own"
    home = "<workdir>/sub-01" if spec.per_subject else "<workdir>"
    more = f", ``{home}/{spec.name}-<variant>``" if spec.variants else ""
    return f"``{home}/{spec.name}``{more}"
