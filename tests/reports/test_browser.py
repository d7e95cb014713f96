"""The pages in a real browser: ``nox -s browser``. Skipped where Chromium or Playwright is missing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.experiments import list_experiments
from bench.ledger.importing import import_experiment
from reports.blind_choices import read_choices
from reports.blind_page import render_blind_page
from reports.comparison_page import compare_all_pairs, render_comparison
from reports.index_page import render_index
from reports.leaderboard import render_leaderboard
from reports.pdf import find_chromium
from reports.render import render_report
from reports.results.experiment import load_experiment
from tests.reports.synthetic import make_experiment

playwright = pytest.importorskip(
    "playwright.sync_api",
    reason="Playwright is not installed: pip install '.[browser]'",
    exc_type=ImportError,
)
if find_chromium() is None:
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)", allow_module_level=True)

#: Where ``nox -s browser`` has npm put axe-core and html-validate.
NODE_MODULES = os.environ.get("INPAINT_BENCH_NODE_MODULES", "")
needs_node = pytest.mark.skipif(
    not NODE_MODULES, reason="axe-core and html-validate are not installed: run nox -s browser"
)
KEPT = Path(__file__).parents[2] / "docs" / "measurements" / "table4-64-6400.zip"
LONG = "a-model-whose-author-gave-it-a-very-long-name-without-any-space-" + "x" * 60


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=str(find_chromium()), chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Render a full report, one without any result, a comparison, the list, and the worst and blind pages."""
    root = tmp_path_factory.mktemp("pages")
    full = make_experiment(
        root / "runs",
        name="full",
        models=("context-encoder", "glcic", "pconv", "mgs-iim", "mgs-iim-no-gate", "mean", "biharmonic"),
        masks=("center", "shapes", "freeform"),
        seeds=(0, 1, 2),
        procedural=False,
        failed=("pconv",),
        not_applicable=[("context-encoder", "shapes")],
        pictures=4,
        lpips=True,
    )
    _say_long_things(full)
    none = make_experiment(root / "runs", name="none", models=("glcic",), failed=("glcic",))
    found = {f.name: render_report(f, root / "reports" / f.name) for f in (full, none)}
    other = make_experiment(
        root / "runs",
        name="other",
        models=("context-encoder", "glcic", "mgs-iim", "mean"),
        masks=("center", "shapes"),
        seeds=(0, 1, 2),
        procedural=False,
        images_seen=3200,
    )
    both = [load_experiment(full), load_experiment(other)]
    compared = compare_all_pairs(both, ["psnr_db", "ssim", "lpips_alex"])
    found["compare"] = render_comparison(both, compared, root / "reports" / "compare")
    found["worst"] = found["full"].with_name("worst.html")
    found["blind"] = render_blind_page(full, root / "reports" / "full", num_pairs=6)
    # The kept evidence of the repository: eleven metrics beside the paper's numbers, on one mask.
    kept = import_experiment([KEPT], runs=root / "kept-runs")
    found["kept"] = render_report(kept, root / "reports" / "kept")
    entries = [load_experiment(folder) for folder in (full, other, kept)]
    found["leaderboard"] = render_leaderboard(entries, [], root / "reports" / "leaderboard.html")
    return {**found, "index": render_index(list_experiments(root / "runs"), root / "reports")}


def _say_long_things(folder: Path) -> None:
    """Texts that do not break at spaces, an instability, and cells of another machine."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["commands"] = [["bench", "run", "--models", LONG], ["bench", "run", "--data", f"/{LONG}"]]
    for place, cell in enumerate(manifest["cells"]):
        cell["summary"] = LONG
        cell["config"] |= {"a_long_field_of_the_configuration": LONG}
        if cell["status"] == "done":
            cell["where"] = {"device": "cpu" if place % 2 else "cuda", "torch": "2.5.0"}
        if cell["training"]:
            cell["training"]["events"] = [{"step": 7, "kind": "gradient spike", "detail": LONG}]
    path.write_text(json.dumps(manifest))


class Visit:
    """A page opened at a width and in a color scheme; whatever it does wrong is noted."""

    def __init__(
        self, chromium: Any, path: Path, width: int = 1600, scheme: str = "light", **more: Any
    ) -> None:
        self.context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True, **more
        )
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(m.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *_: object) -> None:
        outside = [u for u in self.requests if not u.startswith(("file:", "data:"))]
        loaded = {u.split("?")[0].split("#")[0] for u in self.requests if u.startswith("file:")}
        self.context.close()
        assert self.wrong == []
        assert outside == []
        assert len(loaded) == 1, "the page is one file"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400, 1600])
@pytest.mark.parametrize(
    "name", ["full", "none", "index", "compare", "worst", "blind", "kept", "leaderboard"]
)
def test_nothing_overflows_is_loaded_or_fails(
    chromium: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    with Visit(chromium, pages[name], width, scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        beyond = """() => [...document.querySelectorAll('main *')].filter((e) => {
            const box = e.getBoundingClientRect();
            return box.width && box.right > innerWidth + 1 && !e.closest('.scroll, pre, .hidden, svg');
        }).map((e) => e.outerHTML.slice(0, 120))"""
        assert page.evaluate(beyond) == []


@pytest.mark.parametrize("name", ["index", "kept", "leaderboard"])
def test_no_table_scrolls_sideways_at_1400_pixels(chromium: Any, pages: dict[str, Path], name: str) -> None:
    with Visit(chromium, pages[name], 1400) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.locator("table").count() > 0
        scrolling = """() => [...document.querySelectorAll('.scroll')].filter(
            (e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.getAttribute('aria-label'))"""
        assert page.evaluate(scrolling) == []


def test_tables_of_words_need_no_scrolling_on_a_narrow_screen(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"], 400) as page:
        tables = page.locator(".scroll:has(> .words)").filter(visible=True)
        assert tables.count() >= 2
        beyond = """(t) => [...t.querySelectorAll('*')].filter((e) =>
            e.getBoundingClientRect().right > t.getBoundingClientRect().right + 1
        ).map((e) => e.outerHTML.slice(0, 120))"""
        for table in tables.all():
            assert table.evaluate(beyond) == []
        captions = page.locator(".words caption:not(.hidden)").filter(visible=True).all()
        assert captions
        for caption in captions:
            assert caption.evaluate("(c) => c.getBoundingClientRect().width") > 200, "one letter a line"


@pytest.mark.parametrize("name", ["full", "kept", "compare"])
def test_names_of_models_lie_over_no_number_on_a_narrow_screen(
    chromium: Any, pages: dict[str, Path], name: str
) -> None:
    """A name such as "perceptual/style" has no space to break at; its column stays in view, above the others."""
    with Visit(chromium, pages[name], 400) as page:
        assert page.locator(".numbers tbody th").count() > 4
        over = """() => [...document.querySelectorAll('.numbers tbody th')].filter((cell) => {
            const text = document.createRange(); text.selectNodeContents(cell);
            return text.getBoundingClientRect().right > cell.getBoundingClientRect().right + 1;
        }).map((cell) => cell.textContent)"""
        assert page.evaluate(over) == []


def test_claims_name_metrics_as_tables_do_and_every_comparison_once(
    chromium: Any, pages: dict[str, Path]
) -> None:
    with Visit(chromium, pages["kept"]) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        # Commands name them by their columns.
        text = "\n".join(page.locator("#verdicts :is(.reason, .evidence li)").all_inner_texts())
        assert "ssim" not in text
        assert "SSIM (luma): MGS-IIM − PConv" in text
        lines = page.locator("#verdicts .evidence").evaluate_all(
            "(all) => all.map((one) => [...one.querySelectorAll('li')].map((li) => li.textContent))"
        )
        assert max(map(len, lines)) == 12, "three comparisons under four conventions"
        assert all(len(set(one)) == len(one) for one in lines)


def test_dark_mode_is_dark(chromium: Any, pages: dict[str, Path]) -> None:
    def lightness(scheme: str) -> list[float]:
        with Visit(chromium, pages["full"], scheme=scheme) as page:
            return [
                sum(
                    float(v)
                    for v in page.evaluate(f"getComputedStyle(document.body).{what}")[4:-1].split(",")
                )
                for what in ("backgroundColor", "color")
            ]

    assert lightness("light")[0] > 700 > 150 > lightness("light")[1]
    assert lightness("dark")[0] < 150 < 600 < lightness("dark")[1]


def test_a_click_on_a_heading_sorts_and_another_turns_round(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"]) as page:
        table = page.locator("#results_table .mask-panel table").first
        heading = table.get_by_role("button", name="Sort by PSNR (dB), ours", exact=True)

        def scores() -> list[float]:
            cells = table.locator("tbody tr td:nth-child(3)")
            found = cells.evaluate_all("(cells) => cells.map((cell) => cell.dataset.sort)")
            return [float(v) for v in found if v]

        heading.click()
        assert scores() == sorted(scores(), reverse=True)
        assert table.locator("th[aria-sort=descending]").count() == 1
        heading.press("Enter")
        assert scores() == sorted(scores())
        table.get_by_role("button", name="Sort by Model").click()
        names = table.locator("tbody th").all_inner_texts()
        assert names == sorted(names, key=str.casefold)


def test_the_mask_switch_changes_every_section(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"]) as page:
        headings = ", ".join(
            f"#{s} .mask-name" for s in ("examples", "results_table", "gallery", "distributions")
        )
        shown = lambda: page.locator(headings).locator("visible=true").all_inner_texts()  # noqa: E731
        assert shown() == ["Mask “center”"] * 4
        page.locator("#results_table .masks label", has_text="shapes").click()
        assert shown() == ["Mask “shapes”"] * 4
        assert page.url.endswith("?mask=shapes"), "the address leads to the same mask"
        page.keyboard.press("ArrowLeft")
        assert shown() == ["Mask “center”"] * 4
        page.goto(f"{pages['full'].as_uri()}?mask=freeform#gallery")
        assert shown() == ["Mask “freeform”"] * 4


def test_zoom_slider_error_map_and_keys(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"]) as page:
        dialog = page.locator("#zoom")
        assert not dialog.is_visible()
        opener = page.get_by_role("button", name="completed by MGS-IIM").first
        opener.focus()
        page.keyboard.press("Enter")
        assert dialog.is_visible()
        assert "MGS-IIM" in page.locator("#zoom-title").inner_text()
        assert "dB" in page.locator("#zoom-scores").inner_text()
        page.locator("#zoom-slider").focus()
        cut = "getComputedStyle(document.querySelector('.stage')).getPropertyValue('--cut').trim()"
        page.keyboard.press("Home")
        assert page.evaluate(cut) == "0%"
        page.keyboard.press("End")
        assert page.evaluate(cut) == "100%"
        page.locator("#zoom-map").click()
        assert not page.locator("#zoom-slider").is_visible(), "the error map has no two sides"
        page.wait_for_function("document.getElementById('zoom-error').width > 10")
        light = """() => { const c = document.getElementById('zoom-error');
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            const at = (x, y) => d[4 * (Math.floor(y * c.height) * c.width + Math.floor(x * c.width))];
            return [at(0.5, 0.5), at(0.05, 0.05)]; }"""
        page.wait_for_function(f"({light})()[0] > 0")
        hole, known = page.evaluate(light)
        assert hole > 50, "the error is in the hole"
        assert known == 0, "known pixels are exact"
        page.locator("#zoom-against").click()
        assert page.locator("#zoom-right").inner_text() == "input"
        before = page.locator("#zoom-title").inner_text()
        page.locator("#zoom-next").click()
        assert page.locator("#zoom-title").inner_text() != before
        model, image = page.locator("#zoom-title").inner_text().rsplit(", ", 1)
        page.locator(".stage").focus()
        page.keyboard.press("ArrowDown")
        other_model, other_image = page.locator("#zoom-title").inner_text().rsplit(", ", 1)
        assert (other_model == model, other_image == image) == (True, False)
        page.keyboard.press("ArrowLeft")
        assert page.locator("#zoom-title").inner_text().rsplit(", ", 1)[0] != model
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert opener.evaluate("(e) => e === document.activeElement"), "focus goes back"


def test_the_slider_has_room_beside_long_names_on_a_narrow_screen(
    chromium: Any, pages: dict[str, Path]
) -> None:
    with Visit(chromium, pages["full"], 400) as page:
        page.get_by_role("button", name="completed by MGS-IIM, no gates").first.click()
        assert page.locator("#zoom-slider").bounding_box()["width"] > 200


def test_worst_completions_are_large_enough_on_a_narrow_screen(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["worst"], 400) as page:
        widths = page.locator(".images img:visible").evaluate_all("(all) => all.map((e) => e.clientWidth)")
        assert min(widths) > 150


def test_the_list_of_experiments_is_filtered_and_sorted(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["index"]) as page:
        names = lambda: page.locator("#experiments tbody tr th").locator("visible=true").all_inner_texts()  # noqa: E731
        assert len(names()) == 3
        page.get_by_role("searchbox").fill("celeba mgs other")
        assert len(names()) == 1
        assert page.get_by_role("status").inner_text() == "1 of 3 experiments"
        page.get_by_role("searchbox").fill("")
        page.get_by_role("button", name="Sort by Images seen").click()
        seen = page.locator("#experiments tbody td:nth-child(6)").evaluate_all(
            "(c) => c.map((e) => +e.dataset.sort)"
        )
        assert seen == sorted(seen, reverse=True)


def test_a_blind_comparison_keeps_choices_and_exports_them_as_rows(
    chromium: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    with Visit(chromium, pages["blind"]) as page:
        labels = ("Context Encoder", "GLCIC", "MGS-IIM")
        text = page.locator("main").inner_text()
        assert not any(label in text for label in labels), "no name before it is asked for"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert page.locator("#number").inner_text() == "4"
        left = page.locator("#left").get_attribute("src")
        page.reload()
        assert page.locator("#number").inner_text() == "4", "choices are kept"
        assert page.locator("#left").get_attribute("src") == left, "and so are order and sides"
        page.keyboard.press("ArrowUp")
        assert page.locator("#number").inner_text() == "3"
        for name in ("No difference", "Left", "Left", "Left"):
            page.get_by_role("button", name=name).click()
        assert page.locator("#choose-left").is_disabled()
        with page.expect_download() as download:
            page.get_by_role("link", name="Export choices as CSV").click()
        download.value.save_as(tmp_path / "choices.csv")
        text = (tmp_path / "choices.csv").read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["choice"] for row in rows] == ["left", "right", "tie", "left", "left", "left"]
        for row in rows:
            expected = {"left": row["left"], "right": row["right"], "tie": ""}[row["choice"]]
            assert row["winner"] == expected
        page.get_by_role("button", name="Show results").click()
        assert page.locator("#models-body tr").count() == len(
            {row[side] for row in rows for side in ("left", "right")}
        )
        cell = page.locator("#models-body td").first.inner_text()
        assert re.fullmatch(r"\d+ % \[\d+, \d+\], n = \d+", cell)
    assert download.value.suggested_filename == f"choices-{rows[0]['reader']}.csv"
    joined = read_choices([tmp_path / "choices.csv"])
    assert len(joined) == 6
    assert set(joined["a"]) | set(joined["b"]) == {row[side] for row in rows for side in ("left", "right")}


def test_a_model_keeps_its_name_while_its_row_scrolls(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"], 400) as page:
        assert page.locator("nav.contents a").first.is_visible(), "the contents are there on a narrow screen"
        box = page.locator("#results_table .mask-panel .scroll").first
        name = box.locator("tbody th").first
        before = name.bounding_box()["x"]
        box.evaluate("(e) => { e.scrollLeft = 300; }")
        assert box.evaluate("(e) => e.scrollLeft") > 100
        assert abs(name.bounding_box()["x"] - before) < 1


def test_values_are_shown_on_hover(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"]) as page:
        hints = page.locator("#seeds svg title").evaluate_all("(all) => all.map((e) => e.textContent)")
        assert any(re.fullmatch(r"MGS-IIM, seed 2: \d\d\.\d+", hint) for hint in hints)
        assert any(re.fullmatch(r"the paper’s lead: 0\.53 dB", hint) for hint in hints)


def test_tables_and_commands_are_copied(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"], permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator("#results_table details.copy summary").first.click()
        page.get_by_role("button", name="Copy LaTeX").first.click()
        page.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()").startswith("\\begin{tabular}")
        page.locator("#setup .copy-button").first.click()
        page.locator("#setup").get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()").count("bench run") == 2


@pytest.mark.parametrize("width", [400, 1400])
def test_commands_break_between_words_only(chromium: Any, pages: dict[str, Path], width: int) -> None:
    with Visit(chromium, pages["kept"], width) as page:
        words = page.evaluate("""
            [...document.querySelectorAll("#setup pre .word")].map((word) => {
                const range = document.createRange();
                range.selectNodeContents(word);
                const lines = new Set([...range.getClientRects()].map((r) => Math.round(r.top)));
                return [word.textContent, lines.size, word.clientWidth, word.parentElement.clientWidth - 32];
            })
        """)
        assert "--images-seen" in [text for text, *_ in words]
        for text, lines, own, box in words:
            assert lines == 1 or own > 0.95 * box, text
        text = page.locator("#setup pre").first.text_content()
        assert [line.split()[:2] for line in text.splitlines()] == [["bench", "run"]] * len(text.splitlines())


def test_a_color_stays_beside_the_name_it_stands_for(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"], 400) as page:
        names = page.evaluate("""
            [...document.querySelectorAll("tbody th .name")].filter((n) => n.offsetParent).map((name) => {
                const range = document.createRange();
                range.selectNodeContents(name.lastChild);
                const [line] = range.getClientRects();
                const swatch = name.querySelector(".swatch").getBoundingClientRect();
                return [name.textContent, line.top, line.bottom, (swatch.top + swatch.bottom) / 2];
            })
        """)
        assert "Biharmonic" in [text.strip() for text, *_ in names]
        for text, top, bottom, middle in names:
            assert top < middle < bottom, text


def test_no_name_of_a_mask_is_cut_in_the_leaderboard(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["leaderboard"], 1400) as page:
        lines = page.evaluate("""
            [...document.querySelectorAll('td[data-head="Mask"]')].map((cell) => {
                const range = document.createRange();
                range.selectNodeContents(cell);
                return [cell.textContent, range.getClientRects().length];
            })
        """)
        assert ["freeform", 1] in lines
        assert [text for text, count in lines if count > 1] == []


def test_buttons_that_wrap_do_not_touch(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["blind"], 400) as page:
        first, last = (page.locator(name).bounding_box() for name in ("#reveal", "#restart"))
        assert last["y"] >= first["y"] + first["height"] + 4, "on a line of its own, below a gap"


@pytest.mark.parametrize("name", ["full", "index", "compare", "worst", "blind"])
def test_the_scripts_run_under_the_policy_of_the_page(
    chromium: Any, pages: dict[str, Path], name: str
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(pages[name].as_uri())
    assert page.locator("html.js").count() == 1
    assert page.locator("th button, figure button, #choose-left").count() > 0
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.x = 1'}))"
    )
    assert page.evaluate("window.x") is None, "a script that is not ours does not run"
    assert len(complaints) == 1, complaints
    context.close()


def test_without_scripts_everything_is_there_and_no_dead_control(
    chromium: Any, pages: dict[str, Path]
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["full"].as_uri())
    assert page.locator("#results_table .mask-name").locator("visible=true").count() == 3
    # A table of the primary metrics and one of the others, for each mask.
    assert page.locator("#results_table .mask-panel table").locator("visible=true").count() == 6
    assert page.locator(".needs-script").locator("visible=true").count() == 0
    assert page.locator("dialog, main button").locator("visible=true").count() == 0
    context.close()


def test_print_shows_every_mask_and_no_controls(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"], 794, "dark") as page:
        page.emulate_media(media="print")
        assert page.locator("#results_table .mask-panel table").locator("visible=true").count() == 6
        assert page.locator(".needs-script, nav").locator("visible=true").count() == 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_first_stop_of_the_keyboard_skips_to_the_results(chromium: Any, pages: dict[str, Path]) -> None:
    with Visit(chromium, pages["full"]) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the results"


@needs_node
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize(
    "name", ["full", "none", "index", "compare", "worst", "blind", "kept", "leaderboard"]
)
def test_axe_finds_no_violation(
    chromium: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    axe = (Path(NODE_MODULES) / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    with Visit(chromium, pages[name], width, scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        page.evaluate(axe)
        assert _violations(page) == []
        if name == "blind":
            page.get_by_role("button", name="Show results").click()
            assert _violations(page) == []
        if name == "full":
            page.get_by_role("button", name="completed by MGS-IIM").first.click()
            page.locator("#zoom-map").click()
            assert _violations(page) == []


def _violations(page: Any) -> list[str]:
    found = page.evaluate("axe.run()")["violations"]
    return [f"{v['id']}: {n['html'][:150]} {n['failureSummary']}" for v in found for n in v["nodes"]]


@needs_node
def test_the_html_is_valid(pages: dict[str, Path], tmp_path: Path) -> None:
    config = tmp_path / "htmlvalidate.json"
    # html-validate takes the semicolon of a data URL for the end of a declaration, so inline styles are checked here:
    # the number of columns of a grid, and the image beneath completions.
    allowed = r"--columns: \d+|--truth: url\(data:image/webp;base64,[A-Za-z0-9+/=]+\)"
    for page in pages.values():
        outside = re.sub(r"<svg.*?</svg>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        styles = re.findall(r'<[^>]* style="([^"]*)"', outside)
        assert all(re.fullmatch(allowed, style) for style in styles)
    rules = {"no-inline-style": "off"}
    config.write_text(json.dumps({"root": True, "extends": ["html-validate:standard"], "rules": rules}))
    node = shutil.which("node")
    assert node is not None
    program = Path(NODE_MODULES) / "html-validate" / "bin" / "html-validate.mjs"
    command = [node, str(program), "--config", str(config), "--formatter", "text", *map(str, pages.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
