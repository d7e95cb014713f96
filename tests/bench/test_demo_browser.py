"""The demo in a real browser: choose, paint, run; known pixels are unchanged and no request leaves loopback.

Needs gradio, playwright and Chromium; ``nox -s demo`` runs it in a process of its own, since a Gradio server leaves
threads and sockets behind.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from reports.pdf import find_chromium

pytest.importorskip("gradio", reason="pip install 'inpaint-bench[demo]'")
api = pytest.importorskip("playwright.sync_api", reason="pip install 'inpaint-bench[browser]'")
if find_chromium() is None:
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)", allow_module_level=True)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Iterator[str]:
    """A demo that was started as a user starts it."""
    place = tmp_path_factory.mktemp("demo")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(place / "cache"),
        "PYTHONUNBUFFERED": "1",
    }
    words = [sys.executable, "-m", "bench", "demo", "--no-browser", "--data", str(pictures_dir)]
    process = subprocess.Popen(words, cwd=place, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = next((line for line in process.stdout if line.startswith("demo: ")), "")
    assert line.startswith("demo: http://127.0.0.1:"), line
    yield line.removeprefix("demo: ").strip()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    process.stdout.close()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """The page, with every request noted."""
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(find_chromium()), chromium_sandbox=False)
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.requested = []
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(address)
        page.wait_for_selector("#complete")
        page.wait_for_selector("#canvas canvas")
        page.wait_for_timeout(2000)
        yield page
        browser.close()


def shown(page: Any, place: int) -> np.ndarray:
    """The pixels of an image of the gallery, as the server gives them."""
    source = page.locator("#results img").nth(place).get_attribute("src")
    body = page.request.get(source).body()
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_paint_run_and_compare(page: Any, pictures_dir: Path) -> None:
    box = page.locator("#canvas canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y)
    page.mouse.down()
    page.mouse.move(x + 30, y + 10, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.click("#complete")
    page.wait_for_function("document.querySelectorAll('#results img').length >= 3", timeout=60000)
    page.wait_for_timeout(1000)
    if folder := os.environ.get("INPAINT_BENCH_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / "demo.png"), full_page=True)
    masked = shown(page, 0)
    hole = (masked == 218).all(axis=-1)
    assert 0 < hole.mean() < 0.5
    truths = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(pictures_dir.iterdir())]
    truth = next(t for t in truths if (t == masked)[~hole].all())
    for place in (1, 2):
        completed = shown(page, place)
        assert np.array_equal(completed[~hole], truth[~hole])
        assert (completed[hole] != masked[hole]).any()
    scores = page.locator("#scores").inner_text()
    assert "biharmonic" in scores
    assert "PSNR (dB)" in scores
    assert page.locator("#slider img").count() >= 2


def test_everything_is_in_view_on_a_phone(page: Any) -> None:
    """After the run of the test above: no name cut, no image or number beyond the edge, one paints before one runs."""
    page.set_viewport_size({"width": 400, "height": 1000})
    page.wait_for_timeout(1000)
    if folder := os.environ.get("INPAINT_BENCH_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / "demo-400.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    places = [page.locator(f"#{name}").bounding_box()["y"] for name in ("canvas", "complete", "results")]
    assert places == sorted(places)
    images = page.locator("#results .grid-container img").all()
    assert len(images) >= 3
    for image in images:
        box = image.bounding_box()
        assert box["width"] > 120
        assert box["x"] + box["width"] <= 400
    cut = "(all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    assert page.locator("#results .caption-label").evaluate_all(cut) == []
    for heading in ("PSNR (dB)", "SSIM", "LPIPS"):
        box = page.locator("#scores th:visible", has_text=heading).first.bounding_box()
        assert box["x"] + box["width"] <= 401


def test_no_request_leaves_loopback(page: Any) -> None:
    hosts = {urlparse(url).hostname for url in page.requested if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert len(page.requested) > 20
