"""Published weights in torch's cache (``TORCH_HOME``): used as they are where cached, else fetched once.

What is neither cached nor downloadable is said to be so, with the reason, within seconds.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch

#: Seconds without an answer after which a server counts as out of reach.
_TIMEOUT_SECONDS = 5.0


class MetricUnavailableError(Exception):
    """A metric cannot be computed here. The message is the reason, in one line."""


def cached_file(url: str) -> Path:
    """Where torch keeps (or would keep) the file of ``url``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def require(url: str) -> Path:
    """The file of ``url`` in torch's cache; only a download is held to the digest in its name.

    Raises:
        MetricUnavailableError: it is neither cached nor downloadable.
    """
    file = cached_file(url)
    return file if file.is_file() else download(url)


def download(url: str, *, progress: bool = False) -> Path:
    """Fetch ``url`` into torch's cache; what lies there is replaced once the new file is whole.

    Raises:
        MetricUnavailableError: it cannot be downloaded.
    """
    file = cached_file(url)
    try:
        _reach(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(
                url, str(file), hash_prefix=published_digest(url), progress=progress
            )
    except (OSError, HTTPException, RuntimeError) as error:
        raise MetricUnavailableError(
            f"{file.name} is not in torch's cache and cannot be downloaded ({one_line(error)}); "
            f"put {url} into hub/checkpoints under TORCH_HOME"
        ) from error
    return file


def published_digest(url: str) -> str:
    """The first digits of the file's SHA-256, in which its name ends."""
    return Path(urlparse(url).path).stem.rsplit("-", 1)[-1]


def _reach(url: str) -> None:
    """Ask the server for the file's headers. In a thread, since no timeout covers the look-up of its name.

    Raises:
        OSError, HTTPException: no answer in time, or a refusal.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=_TIMEOUT_SECONDS):  # nosec B310 (published addresses)
                outcome.append(None)
        except (OSError, HTTPException) as error:
            outcome.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * _TIMEOUT_SECONDS)
    if not outcome:
        raise TimeoutError(f"no answer from {urlparse(url).hostname} in {2 * _TIMEOUT_SECONDS:.0f} s")
    if outcome[0] is not None:
        raise outcome[0]


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torch.hub passes no timeout of its own, so that a silent server would hold the run for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def one_line(error: BaseException) -> str:
    """The first sentence of an error's message."""
    reason = getattr(error, "reason", error)
    lines = str(reason).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".:") if lines else type(error).__name__
