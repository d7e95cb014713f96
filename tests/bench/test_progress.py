"""What a run shows as it goes, captured at 80 and 120 columns."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from bench.progress import ConsoleCallbacks, RunClock
from bench.runner.callbacks import RunEstimate
from bench.training.metric_logger import Progress

TERMS = {"generator/loss": 0.1234, "generator/reconstruction": 0.1, "discriminator/loss": 1.386}
ESTIMATE = RunEstimate(trainings=(60.0, 60.0), evaluations=(3.0,) * 4, overhead=3.0)
LABEL = "MGS-IIM (no spectral normalization)"


def progress(step: int, num_steps: int = 100) -> Progress:
    return Progress(
        step=step,
        num_steps=num_steps,
        phase="joint",
        images_per_second=31.4,
        seconds=1.6 * step,
        seconds_left=1.6 * (num_steps - step),
        terms=TERMS,
    )


class Terminal:
    """A terminal of a given width, and what stands on it."""

    def __init__(self, width: int) -> None:
        self.output = io.StringIO()
        self.console = Console(
            file=self.output, force_terminal=True, width=width, height=20, color_system=None
        )
        self.callbacks = ConsoleCallbacks(console=self.console)

    def lines(self) -> list[str]:
        """The bars as they are drawn now."""
        assert self.callbacks._live is not None
        paper = Console(file=io.StringIO(), force_terminal=True, width=self.console.width, color_system=None)
        with paper.capture() as capture:
            paper.print(self.callbacks._live.get_renderable())
        return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("width", "inner"),
    [
        (80, "47/100  85 s left  joint  31 images/s"),
        (120, "47/100  85 s left  joint  31 images/s  generator 0.1234  discriminator 1.386"),
    ],
)
def test_losses_are_the_first_to_give_way(width: int, inner: str) -> None:
    terminal = Terminal(width)
    with terminal.callbacks as callbacks:
        callbacks.planned(2, 4, 0, ESTIMATE)
        callbacks.training_started(LABEL, 1, 2, 100)
        callbacks.training_step(LABEL, 0, 100)
        callbacks.training_step(LABEL, 1, 100)
        first = terminal.lines()
        callbacks.training_progress(LABEL, progress(47))
        later = terminal.lines()
    assert len(first) == len(later) == 2
    assert max(map(len, first + later)) <= width
    outer, bar = first
    assert "whole run" in outer
    assert "0/2 trainings" in outer
    assert re.search(r"\d+ % *|\d+%", outer)
    assert "left" in outer
    assert "MGS-IIM (no spect..." in bar
    assert "1/100" in bar  # a bar from the first step on, before any loss was read
    assert later[1].endswith(inner)


def test_between_two_reports_only_the_step_moves() -> None:
    terminal = Terminal(120)
    with terminal.callbacks as callbacks:
        callbacks.planned(1, 1, 0, ESTIMATE)
        callbacks.training_started("GLCIC", 1, 1, 100)
        callbacks.training_progress("GLCIC", progress(10))
        callbacks.training_step("GLCIC", 11, 100)
        (_, bar) = terminal.lines()
    assert "11/100  2 min left  joint  31 images/s" in bar


def test_a_resumed_training_says_from_where() -> None:
    terminal = Terminal(80)
    with terminal.callbacks as callbacks:
        callbacks.planned(1, 1, 0, RunEstimate((60.0,), (3.0,), 3.0))
        callbacks.training_started("GLCIC", 1, 1, 100)
        callbacks.training_step("GLCIC", 47, 100)
        clock = callbacks._clock
        assert clock is not None
        assert clock.seconds_left() == pytest.approx(60 * 0.53 + 6)
    assert "GLCIC: resumes at step 47 of 100" in terminal.output.getvalue()
    assert "finished in 1 s" in terminal.output.getvalue()


def test_without_a_terminal_there_are_plain_lines_only() -> None:
    output = io.StringIO()
    with ConsoleCallbacks(console=Console(file=output, width=80)) as callbacks:
        callbacks.planned(1, 1, 0, None)
        callbacks.training_started("GLCIC", 1, 1, 100)
        for step in range(101):
            callbacks.training_step("GLCIC", step, 100)
        callbacks.training_done("GLCIC", 1.0)
        callbacks.cell_done("GLCIC", "center", {"psnr_db": 21.5})
    assert output.getvalue().splitlines() == [
        "1 cell; 1 training to run.",
        "[1/1] training GLCIC: 100 steps",
        "GLCIC on center: psnr_db 21.5",
        "finished in 1 s",
    ]


def test_start_up_is_in_what_is_announced_and_in_what_it_took() -> None:
    output = io.StringIO()
    console = Console(file=output, width=80)
    with ConsoleCallbacks(console=console, began=time.monotonic() - 40) as callbacks:
        callbacks.planned(1, 1, 0, RunEstimate((10.0,), (3.0,), 4.0))
    plan, end = output.getvalue().splitlines()
    assert plan == "1 cell; 1 training to run: about 57 s on this machine."
    assert end == "finished in 40 s"


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_the_time_left_follows_what_was_measured(slower: float) -> None:
    clock = RunClock(RunEstimate((100.0, 100.0), (10.0, 10.0), 2.0))
    assert clock.seconds_left() == 222
    clock.advance("training", 0, share=1.0, seconds=100 * slower)
    assert clock.seconds_left() == pytest.approx(100 * slower + 22)  # evaluations are not known to be slower
    clock.advance("evaluation", 0, share=1.0, seconds=10 * slower)
    assert clock.seconds_left() == pytest.approx(110 * slower + 2)
    assert clock.share_done() == pytest.approx(110 * slower / (220 * slower + 2))


def test_the_first_step_alone_does_not_decide() -> None:
    """A first step that compiles for 20 s does not make a day of an hour."""
    clock = RunClock(RunEstimate((3600.0,), (), 0.0))
    clock.advance("training", 0, share=1 / 1000, seconds=20.0)
    assert clock.seconds_left() < 1.2 * 3600
