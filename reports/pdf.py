"""An installed Chromium without its window: it prints pages as PDF, and tests open them in it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from reports.results.atomic_io import atomic_write

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_SECONDS = 180


class ChromiumError(RuntimeError):
    """There is no Chromium, or it did not print. The message says what to do."""


def find_chromium() -> Path | None:
    """Find the first browser of the Chromium family on the search path."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return Path(found) if found else None


def print_pdf(page: Path, target: Path) -> Path:
    """Print an HTML page as PDF by its print style sheet, atomically.

    Raises:
        ChromiumError: no browser is installed, or it failed.
    """
    browser = find_chromium()
    if browser is None:
        raise ChromiumError(
            "a PDF needs Chromium, and none is installed (Debian: apt-get install chromium; "
            f"looked for {', '.join(_NAMES)}); any browser prints {page} as PDF too"
        )
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "page.pdf"
        command = [
            str(browser),
            "--headless",
            "--disable-gpu",
            "--no-sandbox",  # the page is ours, and root in a container has no sandbox
            # A profile of its own, or a browser that is open already would
            # take the page over and print nothing.
            f"--user-data-dir={folder}/profile",
            "--no-pdf-header-footer",
            f"--print-to-pdf={printed}",
            page.resolve().as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ChromiumError(f"{browser} did not print {page}: {error}") from error
        # The file decides: an exit code of zero may come without one.
        if not printed.is_file():
            said = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise ChromiumError(f"{browser} did not print {page} (exit {done.returncode}): {said}")
        atomic_write(target, lambda temporary: shutil.copyfile(printed, temporary))
    return target
