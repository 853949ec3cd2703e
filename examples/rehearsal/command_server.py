"""Runs the commands of a shell script without paying for a Python's start each time.

``neuroclips`` and ``hf`` on the script's PATH are small programs that hand their words to this
process, which has loaded the libraries already and forks for every command. The commands of `REAL`
are started as processes of their own. Each gets the miniature's ``--set`` options behind its words.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REAL = ("init", "compare", "report", "status")
"""Commands that import no torch and are cheap to start."""
_FORWARD = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    own = {{k: v for k, v in os.environ.items() if k.startswith("NEUROCLIPS_")}}
    words = json.dumps([own, {program!r}, os.getcwd(), *sys.argv[1:]]).encode()
    socket.send_fds(server, [words], [0, 1, 2])
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(16)))
"""


@dataclass(frozen=True)
class Done:
    """A command that ended: its words as in the script, exit code and seconds."""

    words: tuple[str, ...]
    code: int
    seconds: float


class CommandServer:
    """Serves the programs ``neuroclips`` and ``hf`` in ``folder / "bin"``.

    Parameters
    ----------
    folder : Path
        For the programs and the socket.
    extra : sequence of str
        What every ``neuroclips`` command gets behind its own words.
    """

    def __init__(self, folder: Path, extra: Sequence[str]) -> None:
        self.extra, self.done = list(extra), list[Done]()
        self.programs = folder / "bin"
        self.programs.mkdir(parents=True)
        address = str(folder / "socket")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(address)
        self.socket.listen()
        for program in ("neuroclips", "hf"):
            path = self.programs / program
            text = _FORWARD.format(python=sys.executable, address=address, program=program)
            path.write_text(text)
            path.chmod(0o755)

    def run(self, script: str, folder: Path, log: Path) -> int:
        """Run a shell script in a folder until it ends or a command fails; return its exit code."""
        environment = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        with log.open("ab") as stream:
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=folder,
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        # The waiting thread ends the loop below by a word that no program sends.
        threading.Thread(target=self._wait, args=(shell,), daemon=True).start()
        while self._serve():
            pass
        return shell.wait()

    def _wait(self, shell: subprocess.Popen[bytes]) -> None:
        shell.wait()
        with socket.socket(socket.AF_UNIX) as own:
            own.connect(self.socket.getsockname())
            own.sendall(b"[]")

    def _serve(self) -> bool:
        """Run one command; return False where the script has ended."""
        connection, _ = self.socket.accept()
        with connection:
            received, descriptors, *_ = socket.recv_fds(connection, 2**16, 3)
            words = json.loads(received)
            if not words:
                return False
            start = time.monotonic()
            process = os.fork()
            if not process:
                _become(words, self.extra, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            _, program, _, *arguments = words
            self.done.append(Done((program, *arguments), code, time.monotonic() - start))
            connection.sendall(str(code).encode())
        return True


def _become(words: Sequence[Any], extra: Sequence[str], descriptors: Sequence[int]) -> None:
    """Turn this forked process into the command; never returns."""
    code = 1
    try:
        own, program, folder, *arguments = words
        os.environ |= own
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.chdir(folder)
        if program == "hf":
            from huggingface_hub.cli.hf import main as hub_main

            sys.argv = ["hf", *arguments]
            hub_main()
            code = 0
        elif arguments[0] in REAL:
            full = [sys.executable, "-m", "neuroclips_cli", *arguments, *extra]
            os.execv(sys.executable, full)
        else:
            from neuroclips_cli.cli.main import guarded_run

            sys.argv = ["neuroclips", *arguments]
            code = guarded_run([*arguments, *extra])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
