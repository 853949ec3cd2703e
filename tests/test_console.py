"""What is printed on a terminal, in a log, and when quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from neuroclips_cli import console


def test_messages_go_to_standard_error_unwrapped_and_with_brackets_kept(capsys):
    console.info("[run] " + "word " * 60 + "end")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("[run] word")


def test_details_appear_with_verbose_only(capsys):
    console.detail("hidden")
    console.configure(verbose=True)
    console.detail("shown")
    assert capsys.readouterr().err == "shown\n"


def test_quiet_leaves_warnings_and_results(capsys):
    console.configure(quiet=True)
    console.info("hidden")
    console.warn("look")
    with console.progress("work", total=1) as advance:
        advance()
    console.table("t", ["a"], [["1"]])
    out, err = capsys.readouterr()
    assert err == "Warning: look\n"
    assert "1" in out


def test_a_log_gets_plain_lines_of_progress(capsys, monkeypatch):
    monkeypatch.setattr(console, "LOG_EVERY_S", 0.0)
    with console.progress("clips", total=3) as advance:
        for _ in range(3):
            advance(loss=0.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("clips: 1/3, 0 s")
    assert "left" in lines[0]
    assert lines[-1].startswith("clips: 3/3")
    assert lines[-1].endswith("loss 0.5")


def test_a_log_is_not_flooded(capsys):
    with console.progress("clips", total=1000) as advance:
        for _ in range(1000):
            advance()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_interrupted_piece_of_work_writes_no_last_line(capsys):
    with pytest.raises(KeyboardInterrupt), console.progress("clips", total=3) as advance:
        advance()
        raise KeyboardInterrupt
    assert "3/3" not in capsys.readouterr().err


def test_a_terminal_gets_a_bar_with_rate(monkeypatch):
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=120)
    monkeypatch.setattr(console, "_err", lambda: terminal)
    with console.progress("clips", total=2, unit="clip") as advance:
        advance()
        advance(loss=0.25)
    shown = stream.getvalue()
    assert "2/2" in shown
    assert "loss 0.25" in shown


def test_a_table_is_not_cut_where_there_is_no_terminal(capsys):
    console.table("t", ["a", "b"], [["x" * 150, "[y]"]])
    out = capsys.readouterr().out
    assert "x" * 150 in out
    assert "[y]" in out


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (125, "2 min 05 s"), (4800, "1 h 20 min")]
)
def test_time_spans_read_well(seconds, text):
    assert console.duration(seconds) == text
