"""The report page: complete, self-contained, safe, and honest about what is missing."""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import reports
from bench.cli import main
from reports.render import render_report
from reports.results.experiment import ExperimentError
from reports.results.manifest import manifest_checksum
from reports.results.schema import read_rows, write_rows
from reports.results.title import read_title, write_title
from tests.reports.synthetic import NO_LPIPS, make_experiment

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' {{ 7*7 }} &amp; <b>$x^2$"


class Elements(html.parser.HTMLParser):
    """Every element with its attributes, text outside of scripts and styles, and tags left open."""

    VOID = frozenset({"meta", "img", "input", "br", "hr", "link", "rect", "path", "use", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def rendered(tmp_path: Path, *, pictures: bool = True, **about: Any) -> tuple[str, Elements]:
    folder = make_experiment(tmp_path / "runs", **about)
    page = render_report(folder, tmp_path / "reports" / folder.name, pictures=pictures)
    text = page.read_text(encoding="utf-8")
    return text, Elements(text)


@pytest.fixture(scope="module")
def default_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Elements]:
    return rendered(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def celeba_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Elements]:
    return rendered(
        tmp_path_factory.mktemp("celeba"),
        models=("context-encoder", "glcic", "pconv", "mgs-iim", "biharmonic"),
        masks=("center", "shapes"),
        seeds=(0, 1, 2),
        procedural=False,
        preset="paper",
        size=160,
        lpips=True,
        pictures=3,
        failed=("glcic",),
        not_applicable=[("context-encoder", "shapes")],
    )


def test_sections_are_there_in_order_and_the_page_is_one_whole_document(
    default_page: tuple[str, Elements],
) -> None:
    text, page = default_page
    ids = [a["id"] for _, a in page.found if "id" in a]
    sections = (
        "summary",
        "examples",
        "seeds",
        "results_table",
        "verdicts",
        "gallery",
        "distributions",
        "training",
        "cost",
        "setup",
        "missing",
    )
    assert [i for i in ids if i in sections] == list(sections)
    assert len(ids) == len(set(ids)), "ids are unique"
    assert page.wrong == []
    assert page.open == []
    assert text.startswith("<!DOCTYPE html>")


def test_every_link_inside_the_page_has_a_target(celeba_page: tuple[str, Elements]) -> None:
    text, page = celeba_page
    ids = {a["id"] for _, a in page.found if a.get("id")}
    targets = {str(a["href"])[1:] for _, a in page.found if str(a.get("href", "")).startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert targets <= ids


def test_nothing_is_loaded_from_elsewhere(celeba_page: tuple[str, Elements]) -> None:
    text, page = celeba_page
    for tag, attributes in page.found:
        # A link loads nothing until it is followed; a table to download is in the page itself.
        links = (
            ("https://", "../index.html", "worst.html", "data:text/csv;charset=utf-8,") if tag == "a" else ()
        )
        for name in ("src", "href", "srcset", "action", "data"):
            value = str(attributes.get(name) or "#")
            assert value.startswith(("#", "data:image/webp;base64,", *links)), value[:80]
    assert {a["rel"] for a in page.all("a") if str(a["href"]).startswith("https:")} == {"noreferrer"}
    inline = {style for _, a in page.found if (style := a.get("style")) and "url(" in style}
    assert inline
    assert all(style.startswith("--truth: url(data:image/webp;base64,") for style in inline)
    assert page.all("link") == []
    assert re.search(r"(?<!href=\")https?://|@import|url\((?!#|data:|\[)", text) is None


def test_the_policy_admits_our_scripts_and_style_sheet_by_digest_and_no_others(
    celeba_page: tuple[str, Elements],
) -> None:
    text, page = celeba_page
    policy = next(str(a["content"]) for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")

    def digests(tag: str) -> set[str]:
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        return {base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in texts}

    directives = dict(d.strip().split(" ", 1) for d in policy.split(";"))
    assert set(re.findall(r"sha256-([^']+)", directives["script-src"])) == digests("script")
    assert set(re.findall(r"sha256-([^']+)", directives["style-src-elem"])) == digests("style")
    assert "unsafe-inline" not in directives["script-src"] + directives["style-src-elem"]
    assert not [name for _, a in page.found for name in a if name.startswith("on")], (
        "no handlers in attributes"
    )


def test_every_picture_and_drawing_has_an_alternative_text(celeba_page: tuple[str, Elements]) -> None:
    _, page = celeba_page
    shown = [a for a in page.all("img") if a.get("src")]
    assert shown
    assert all(a.get("alt") for a in shown)
    drawings = [a for a in page.all("div") if a.get("role") == "img"]
    assert len(drawings) > 10
    assert all(a.get("aria-label") for a in drawings)


def test_tables_have_captions_and_scoped_headings(default_page: tuple[str, Elements]) -> None:
    _, page = default_page
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("col", "row", "colgroup") for a in page.all("th"))


def test_procedural_faces_show_the_papers_numbers_but_no_difference_and_no_verdict(
    default_page: tuple[str, Elements],
) -> None:
    text, page = default_page
    assert "27.9212" in page.text
    assert ">difference<" not in text
    assert "No difference to the paper is printed" in page.text
    assert "The paper’s claims are not tested on them" in page.text
    assert "verdict reproduced" not in text


def test_few_images_and_few_seeds_are_two_cautions(default_page: tuple[str, Elements]) -> None:
    _, page = default_page
    assert "1,600 images seen are far from the end of training" in page.text
    assert "the ranking is noise until every model has 3 trainings" in page.text
    assert "There is only one training of each model" in page.text


@pytest.mark.usefixtures("no_drawings")
def test_two_trainings_are_a_plural(tmp_path: Path) -> None:
    _, page = rendered(tmp_path, models=("glcic", "mgs-iim", "mean"), seeds=(0, 1), pictures=0)
    assert "There are only two trainings of each model" in page.text


def test_numbers_stay_beside_their_units(celeba_page: tuple[str, Elements]) -> None:
    """Of the text alone: what scripts, tables to copy and addresses hold stays as it is."""
    text, page = celeba_page
    assert re.search(r"\(95\u00a0% interval", text)
    assert not re.search(
        r"\d (?:%|dB)(?!\w)", re.sub(r"(?s)<(script|style|svg|pre|code|kbd)\b.*?</\1>|<[^>]*>", "", text)
    )
    assert page.wrong == []


def test_what_does_not_apply_is_said_once_not_for_every_seed(celeba_page: tuple[str, Elements]) -> None:
    text, _ = celeba_page
    assert text.count("<strong>Context Encoder</strong> on “shapes”") == 1


def test_the_cost_of_models_has_a_legend_of_what_its_figures_show(celeba_page: tuple[str, Elements]) -> None:
    text, _ = celeba_page
    cost = text[text.index('<section id="cost"') : text.index('<section id="setup"')]
    (legend,) = re.findall(r'<ul class="legend">(.*?)</ul>', cost, re.DOTALL)
    assert "MGS-IIM" in legend
    assert "Biharmonic" not in legend


@pytest.mark.usefixtures("no_drawings")
def test_the_page_answers_first_which_model_won_and_whether_that_is_noise(tmp_path: Path) -> None:
    means = {"mgs-iim": 27.0, "glcic": 25.0, "mean": 19.0}
    models = ("glcic", "mgs-iim", "mean")
    few, _ = rendered(tmp_path / "few", models=models, means=means, pictures=0)
    enough, page = rendered(tmp_path / "three", models=models, means=means, seeds=(0, 1, 2), pictures=0)
    assert "<strong>By PSNR, no winner can be named: that takes 3 trainings of each model.</strong>" in few
    assert "<strong>By PSNR, MGS-IIM wins, by more than noise.</strong>" in enough
    assert "By SSIM, MGS-IIM leads." in page.text
    assert "<dt>trainings of each model</dt><dd>3 (seeds 0, 1, 2)</dd>" in enough
    assert "<dt>trainings of each model</dt><dd>1 (seed 0)</dd>" in few


@pytest.mark.usefixtures("no_drawings")
def test_all_metrics_stand_in_tables_that_are_no_wider_than_the_page(tmp_path: Path) -> None:
    text, _ = rendered(tmp_path, models=("glcic", "mean"), pictures=0, lpips=True)
    (panel,) = _tables(text)
    first, more = panel.split("<table class=")[1:]
    headings = [re.findall(r'class="group">(.+?) <span', table) for table in (first, more)]
    assert headings == [["PSNR (dB)", "SSIM", "LPIPS (Alex)"], ["hole PSNR (dB)", "hole MAE"]]
    rows = [re.findall(r'<tr[^>]*>\n<th scope="row" data-sort="([^"]+)"', table) for table in (first, more)]
    assert rows[0] == rows[1] == ["GLCIC", "Mean pixel"]


@pytest.mark.usefixtures("no_drawings")
def test_three_seeds_after_few_images_are_a_result_of_a_short_training(tmp_path: Path) -> None:
    _, page = rendered(tmp_path, models=("mgs-iim", "mean"), seeds=(0, 1, 2), pictures=0)
    assert "is noise" not in page.text
    assert "1,600 images seen are far from the end of training" in page.text
    assert "inconclusive by rule" not in page.text


def test_the_full_budget_on_celeba_prints_differences(celeba_page: tuple[str, Elements]) -> None:
    text, page = celeba_page
    assert ">difference<" in text
    assert "is noise" not in page.text


@pytest.mark.usefixtures("no_drawings")
@pytest.mark.parametrize(
    "below", [{"size": 64}, {"images_seen": 1600}, {"preset": "quick", "images_seen": 3_600_000}]
)
def test_celeba_below_the_papers_set_up_prints_no_difference(tmp_path: Path, below: dict[str, Any]) -> None:
    about = {"preset": "paper", "size": 160, "images_seen": 3_600_000, **below}
    text, page = rendered(tmp_path, procedural=False, models=("mgs-iim", "mean"), pictures=0, **about)
    assert ">difference<" not in text
    assert "No difference to the paper is printed" in page.text


def test_without_lpips_the_column_says_so_and_has_no_number(default_page: tuple[str, Elements]) -> None:
    text, page = default_page
    assert f"LPIPS (Alex) is unavailable: {NO_LPIPS}".replace("'", "’") in page.text
    assert f"Unavailable: {NO_LPIPS}".replace("'", "’") in page.text
    assert ">n/a<" in text


def test_failed_cells_show_reason_and_traceback_and_others_their_numbers(
    celeba_page: tuple[str, Elements],
) -> None:
    _, page = celeba_page
    assert "Six cells failed" in page.text
    assert "NonFiniteLossError: loss is nan at step 7" in page.text
    assert "predicts the centre patch only" in page.text
    assert "GLCIC (failed)" in page.text


def test_skipped_images_are_named_with_their_reason(default_page: tuple[str, Elements]) -> None:
    assert "broken.jpg : truncated" in default_page[1].text


def test_the_page_says_whose_pictures_it_holds(celeba_page: tuple[str, Elements]) -> None:
    _, page = celeba_page
    assert "CelebA: non-commercial research only." in page.text
    assert "Pass this page on only as those terms allow" in page.text


def test_no_pictures_leaves_all_of_them_out(tmp_path: Path) -> None:
    text, page = rendered(tmp_path, pictures=False, models=("mgs-iim", "mean"))
    assert "data:image" not in text
    assert "Left out on request" in page.text


def test_the_command_and_the_provenance_are_there(default_page: tuple[str, Elements]) -> None:
    _, page = default_page
    for expected in (
        "bench run --models all --mask center",
        "0123456789ab",
        "f" * 64,
        "a processor",
        "2.5.0",
    ):
        assert expected in page.text


@pytest.mark.parametrize(
    ("models", "failed", "expected"),
    [
        (("mgs-iim",), (), "no other trained model was evaluated"),
        (("mean", "biharmonic"), (), "only training-free baselines were evaluated"),
        (("mean",), (), "only training-free baselines were evaluated"),
        (("glcic",), ("glcic",), "no cell of this experiment is finished"),
        (("mgs-iim", "mean"), ("mgs-iim",), "only training-free baselines were evaluated"),
    ],
)
def test_small_experiments_render(
    tmp_path: Path, models: tuple[str, ...], failed: tuple[str, ...], expected: str
) -> None:
    _, page = rendered(tmp_path, models=models, failed=failed)
    assert expected in page.text
    assert page.wrong == []


@pytest.mark.usefixtures("no_drawings")
def test_summary_and_table_say_which_models_clear_the_best_baseline(tmp_path: Path) -> None:
    text, page = rendered(
        tmp_path,
        models=("glcic", "mgs-iim", "biharmonic"),
        means={"glcic": 18.0},
        seeds=(0, 1, 2),
        pictures=0,
    )
    assert "The bar is Biharmonic, the best training-free baseline: MGS-IIM (+3." in page.text
    assert "clears it; GLCIC (−2." in page.text
    assert "falls short of it" in page.text
    assert re.search(r'title="clears the baseline">✓ \+3\.\d\d<', text)
    assert re.search(r'title="falls short of the baseline">✗ −2\.\d\d<', text)


def test_with_one_training_each_nothing_clears_the_baseline(default_page: tuple[str, Elements]) -> None:
    text, page = default_page
    assert "not decided for" in page.text
    assert 'title="clears the baseline"' not in text


def test_the_first_sentence_says_what_was_compared_beside_what(celeba_page: tuple[str, Elements]) -> None:
    text, page = celeba_page
    assert (
        "Compares 3 inpainting models and 1 training-free baseline on 20,260 test images of CelebA at 160 × 160 px "
        "beside Table 4 of Jiao et al., Image Inpainting based on Gated Convolution and Spectral Normalization"
    ) in page.text
    assert "1 May 2024" in page.text
    assert "Table 4, reproduced" in page.text
    assert text.index("Words used on this page") < text.index('id="examples"')


def test_the_papers_column_stands_only_beside_the_mask_it_belongs_to_with_its_citation(
    celeba_page: tuple[str, Elements],
) -> None:
    text, _ = celeba_page
    center, shapes = _tables(text)
    assert ">paper<" in center
    assert "27.9212" in center
    assert ">paper<" not in shapes
    assert "27.9212" not in shapes


def _tables(text: str) -> list[str]:
    """Return the panels of the section of results, one per mask."""
    section = text[text.index('<section id="results_table"') :]
    section = section[: section.index("</section>")]
    return section.split('<div class="mask-panel"')[1:]


@pytest.mark.usefixtures("no_drawings")
def test_the_paper_is_cited_at_its_table_without_its_model(tmp_path: Path) -> None:
    text, _ = rendered(tmp_path, models=("glcic", "mean"), pictures=0)
    assert "Table 4 of Jiao et al., <a href=" in _tables(text)[0]


@pytest.mark.usefixtures("no_drawings")
def test_without_the_papers_mask_nothing_of_the_paper_is_shown(tmp_path: Path) -> None:
    text, page = rendered(tmp_path, models=("glcic", "mgs-iim"), masks=("shapes",), pictures=0)
    assert "beside Table 4" not in page.text
    assert "Jiao" not in _tables(text)[0]
    assert ">paper</th>" not in text


@pytest.mark.usefixtures("no_drawings")
def test_the_top_of_the_page_says_what_to_cite(tmp_path: Path) -> None:
    text, page = rendered(tmp_path, models=("glcic", "mean"), pictures=0)
    header = text[text.index('<header id="summary"') : text.index("</header>")]
    assert "To cite: inpaint-bench" in header
    assert "Jiao et al. for the numbers of Table 4" in header
    assert 'href="#models"' in header
    assert any(attributes.get("id") == "models" for _, attributes in page.found)


@pytest.mark.usefixtures("no_drawings")
def test_without_the_papers_numbers_and_trainings_the_suite_alone_is_cited(tmp_path: Path) -> None:
    text, _ = rendered(tmp_path, models=("mean",), masks=("shapes",), pictures=0)
    header = text[text.index('<header id="summary"') : text.index("</header>")]
    assert "To cite: inpaint-bench" in header
    assert "Jiao" not in header
    assert "papers of the models" not in header


@pytest.mark.usefixtures("no_drawings")
def test_negative_numbers_in_sentences_have_the_minus_sign_of_the_tables(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs",
        models=("glcic", "mgs-iim", "biharmonic"),
        means={"biharmonic": 26.0},
        seeds=(0, 1, 2),
        pictures=0,
    )
    text = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    header = text[text.index('<header id="summary"') : text.index("</header>")]
    assert re.search(r"\(−\d", header)
    assert not re.search(r"[\s(\[]-\d", re.sub(r"<[^>]*>", "", header))


@pytest.mark.usefixtures("no_drawings")
def test_another_title_is_shown_with_the_experiments_name(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    text = render_report(folder, tmp_path / "page", title="Does it <hold>?").read_text(encoding="utf-8")
    assert "<title>Does it &lt;hold&gt;? · inpaint-bench</title>" in text
    assert "<h1>Does it &lt;hold&gt;?</h1>" in text
    assert "experiment <code>synthetic</code>" in text


@pytest.mark.usefixtures("no_drawings")
def test_a_title_given_once_stays_with_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    monkeypatch.chdir(tmp_path)

    def heading(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["report", "synthetic", *arguments])
        assert stop.value.code == 0
        page = (tmp_path / "reports" / "synthetic" / "index.html").read_text(encoding="utf-8")
        return page[page.index("<h1>") + 4 : page.index("</h1>")]

    assert heading() == "synthetic"
    assert heading("--title", "Who fills best?") == "Who fills best?"
    # As 'bench run' renders it, which knows of no title; and in the list of experiments.
    assert "<h1>Who fills best?</h1>" in render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert "Who fills best?" in (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    assert heading("--title", "") == "synthetic"
    assert "Who fills best?" not in (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"title": 3}', "\udcff"])
def test_a_damaged_title_is_none(tmp_path: Path, content: str) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    (folder / "title.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    assert "<h1>synthetic</h1>" in render_report(folder, tmp_path / "page").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Who fills best?", "Ours fills best"),
        ('"title"', '"heading"'),
        ('"sha256"', '"md5"'),
        ("{", '{"by": 1, '),
        ('", "sha256": "', ""),  # cut so that the digits of the checksum end the heading
    ],
)
def test_an_edited_title_is_none_and_so_is_one_without_a_checksum(tmp_path: Path, old: str, new: str) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    write_title(folder, "Who fills best?")
    path = folder / "title.json"
    assert read_title(folder) == "Who fills best?"
    path.write_text(path.read_text().replace(old, new, 1))
    assert read_title(folder) == ""
    path.write_text('{"title": "Somebody wrote this"}')
    assert read_title(folder) == ""


@pytest.mark.long
def test_methods_and_masks_have_one_order_in_every_table_and_legend(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs",
        models=(
            "biharmonic",
            "my-own",
            "mgs-iim-no-gate",
            "mgs-iim",
            "deepfillv2",
            "mean",
            "context-encoder",
        ),
        masks=("shapes", "center"),
        not_applicable=[("biharmonic", "shapes"), ("context-encoder", "shapes")],
        pictures=3,
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell["groups"] = ["modern"] if cell["model"] == "deepfillv2" else []
    (folder / "manifest.json").write_text(json.dumps(manifest))
    text = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    order = [
        "Context Encoder",
        "MGS-IIM",
        "MGS-IIM, no gates",
        "deepfillv2",
        "my-own",
        "Biharmonic",
        "Mean pixel",
    ]
    found = []
    for part, name in (
        (r"<tbody>.*?</tbody>", r"</svg>([^<]+)</span></th>"),
        (r'<ul class="legend">.*?</ul>', r"</svg>([^<]+)</li>"),
        (r"<article.*?</article>", r'data-label="([^"]+)"'),
    ):
        found += [re.findall(name, match) for match in re.findall(part, text, re.DOTALL)]
    lists = [names for names in found if len(names) > 1]
    assert len(lists) > 8
    for names in lists:
        places = [order.index(name) for name in names]
        assert places == sorted(places), names
    masks = re.findall(r'name="mask-results_table" value="(\w+)"', text)
    assert masks == ["shapes", "center"]


@pytest.mark.usefixtures("no_drawings")
def test_footnotes_use_the_words_of_the_table_not_column_names(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["metrics"]["hole_psnr_db"]["convention"] = "as psnr_db, over the hole only"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page = Elements(render_report(folder, tmp_path / "page").read_text(encoding="utf-8"))
    assert "As PSNR, over the hole only." in page.text
    assert "psnr_db" not in page.text[page.text.index("Copy this table") + 2000 :]


def test_every_table_can_be_downloaded_as_csv_with_every_digit(celeba_page: tuple[str, Elements]) -> None:
    _, page = celeba_page
    links = [a for a in page.all("a") if "download" in a]
    assert [a["download"] for a in links] == ["synthetic-center.csv", "synthetic-shapes.csv"]
    lines = list(csv.reader(io.StringIO(unquote(str(links[0]["href"]).split(",", 1)[1]))))
    assert lines[0][:4] == ["Model", "PSNR (dB), paper", "PSNR (dB)", "PSNR (dB), difference"]
    assert all(len(line) == len(lines[0]) for line in lines)
    assert float(lines[1][2]) - float(lines[1][1]) == pytest.approx(float(lines[1][3]))


def test_two_files_dropped_into_the_package_are_a_section_of_the_page(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(Path(reports.__file__).parent, root / "reports")
    (root / "reports" / "sections" / "holes.py").write_text(
        "from reports.sections import ReportSection\n\n\n"
        'SECTION = ReportSection("holes", "Holes", 55, lambda context: {"count": len(context.rows)})\n'
    )
    (root / "reports" / "templates" / "sections" / "holes.html.j2").write_text(
        "<p>{{ view.count }} holes.</p>\n"
    )
    folder = make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    program = (
        "from pathlib import Path; from reports.render import render_report; "
        f"render_report(Path({str(folder)!r}), Path({str(tmp_path / 'page')!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, check=True, timeout=120)
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert '<li><a href="#holes">Holes</a></li>' in text
    assert "<p>24 holes.</p>" in text
    assert text.index('id="gallery"') < text.index('id="holes"') < text.index('id="distributions"')


@pytest.mark.usefixtures("no_drawings")
def test_the_summary_says_who_leads_on_other_masks_and_where_a_fill_is_above_all(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs", models=("glcic", "mgs-iim", "biharmonic"), masks=("center", "shapes"), pictures=0
    )
    path = folder / "cells" / "biharmonic-shapes-seed0" / "results.parquet"
    rows = read_rows(path)
    write_rows(rows.assign(psnr_db=rows["psnr_db"] + 9), path)
    page = Elements(render_report(folder, tmp_path / "page").read_text(encoding="utf-8"))
    assert (
        "MGS-IIM has the best mean of the trained models on the other mask too (shapes); the baseline Biharmonic is "
        "above all of them on shapes."
    ) in page.text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs", models=("glcic", "mgs-iim", "mean"), failed=("glcic",), pictures=3
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell |= {"summary": HOSTILE, "paper": HOSTILE, "config": {HOSTILE: HOSTILE}}
        cell["ambiguities"][0] |= {"topic": HOSTILE, "deviation": True}
        if cell["status"] == "failed":
            cell |= {"label": HOSTILE, "reason": HOSTILE, "error": HOSTILE}
    manifest["command"].append(HOSTILE)
    manifest["data"] |= {
        "title": HOSTILE,
        "licence": HOSTILE,
        "skipped": [{"id": HOSTILE, "reason": HOSTILE}],
    }
    manifest["masks"]["center"]["summary"] = HOSTILE
    manifest["metrics"]["psnr_db"]["convention"] = HOSTILE
    manifest["hardware"]["device"] = HOSTILE
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page = Elements(render_report(folder, tmp_path / "page").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 2, "ours: one in the head, one at the end"
    assert not [a for _, a in page.found if "onerror" in a or a.get("src") == "x"]
    assert page.all("b") == []
    assert page.text.count(" ".join(HOSTILE.split())) > 8
    assert page.wrong == []


def test_hostile_labels_stay_text_inside_drawings(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("glcic", "mgs-iim"), pictures=0)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"GLCIC"', json.dumps(HOSTILE)))
    path = folder / "cells" / "glcic-center-seed0" / "results.parquet"
    write_rows(read_rows(path).assign(label=HOSTILE), path)
    page = Elements(render_report(folder, tmp_path / "page").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 2
    assert page.all("b") == []
    assert page.wrong == []


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mgs-iim", "mean"))
    first = render_report(folder, tmp_path / "a").read_bytes()
    assert render_report(folder, tmp_path / "b").read_bytes() == first


@pytest.mark.usefixtures("no_drawings")
def test_a_page_is_replaced_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    target = tmp_path / "reports"
    target.mkdir()
    (target / "index.html").write_text("old")
    render_report(folder, target)
    assert [p.name for p in target.iterdir()] == ["index.html"]
    assert "old" not in (target / "index.html").read_text()[:200]


def test_a_folder_without_an_experiment_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"manifest\.json"):
        render_report(tmp_path / "none", tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_one_label_with_two_training_masks_is_two_methods(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mgs-iim", "mgs-iim-no-gate"), pictures=0)
    path = folder / "cells" / "mgs-iim-no-gate-center-seed0" / "results.parquet"
    write_rows(read_rows(path).assign(model="mgs-iim", label="MGS-IIM", train_mask="shapes"), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"][1] |= {"model": "mgs-iim", "label": "MGS-IIM", "train_mask": "shapes"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page = Elements(render_report(folder, tmp_path / "page").read_text(encoding="utf-8"))
    assert "MGS-IIM, trained on center" in page.text
    assert "MGS-IIM, trained on shapes" in page.text


def test_a_fitted_baseline_stands_beside_the_learning_curves(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mgs-iim", "biharmonic"), seeds=(0, 1), pictures=0)
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        if not cell["trained"]:
            cell["fit"] = {"validation_psnr_db_by_images": {"100": 19.0, "400": 20.5, "1600": 21.25}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    text, page = _read(render_report(folder, tmp_path / "page"))
    assert "How much is not linear: beside Biharmonic" in page.text
    assert "Biharmonic: 19.00 from 100 images, 20.50 from 400 images, 21.25 from 1,600 images" in text
    assert "Biharmonic fitted to 100, 400 and all 1,600 of its training images" in page.text
    assert "Line: mean of the seeds; band: from the lowest to the highest." in page.text


def _read(path: Path) -> tuple[str, Elements]:
    text = path.read_text(encoding="utf-8")
    return text, Elements(text)


@pytest.mark.parametrize("heading", ["\\u0394 E", "$\\alpha$", "\\1", "\\g<name>", "a\\"])
def test_a_metric_may_be_headed_by_any_text(tmp_path: Path, heading: str) -> None:
    """A backslash in a heading is no template of a regular expression."""
    folder = make_experiment(tmp_path, models=("mgs-iim", "mean"), pictures=0)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"]["ssim"] |= {"heading": heading}
    manifest["metrics"]["psnr_db"] |= {"convention": "as ssim, in dB"}
    manifest["sha256"] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    page = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert f"As {html.escape(heading)}, in" in page
