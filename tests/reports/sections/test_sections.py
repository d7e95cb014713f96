"""Parts of the page: choice of pictures, tables to copy, looks, drawings."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image

from reports import images, svg
from reports.context import ReportContext
from reports.export import as_csv, as_latex, as_markdown
from reports.palette import KNOWN, line_styles
from reports.results.experiment import Experiment, load_experiment
from reports.sections.results_table import build_results_table
from tests.reports.synthetic import make_experiment


def test_images_are_chosen_by_rule_each_once() -> None:
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(24, 2, 48), "b": rng.normal(23, 2, 48)}
    chosen = images.choose_images(scores, 48)
    places = [c.place for c in chosen]
    assert len(places) == len(set(places))
    by_best = {label: c.place for c in chosen for label in c.best_of}
    by_worst = {label: c.place for c in chosen for label in c.worst_of}
    assert by_best == {label: int(v.argmax()) for label, v in scores.items()}
    assert by_worst == {label: int(v.argmin()) for label, v in scores.items()}
    spread = np.abs(scores["a"] - scores["b"])
    disagreement = {c.place for c in chosen if "most disagreement" in c.rules}
    assert disagreement == set(np.argsort(-spread)[: images.NUM_DISAGREEMENT].tolist())
    means = (scores["a"] + scores["b"]) / 2
    (median,) = (c.place for c in chosen if "median" in c.rules)
    assert means[median] == np.sort(means)[24]


def test_lower_is_better_turns_best_and_worst_round() -> None:
    (first, *_) = [
        c for c in images.choose_images({"a": np.arange(9.0)}, 9, higher_is_better=False) if c.best_of
    ]
    assert first.place == 0


@pytest.mark.parametrize("count", [1, 2, 48])
def test_random_images_do_not_depend_on_scores(count: int) -> None:
    def random(scores: dict[str, np.ndarray]) -> list[int]:
        return [c.place for c in images.choose_images(scores, count) if "random" in c.rules]

    assert random({}) == random({"a": np.random.default_rng(1).normal(size=count)})


def test_images_without_scores_are_only_chosen_at_random() -> None:
    chosen = images.choose_images({"a": np.full(5, np.nan)}, 5)
    assert {r for c in chosen for r in c.reasons(1)} == {"random"}


def _decoded(uri: str, mode: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert(mode))


def test_an_embedded_image_is_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(_decoded(images.image_uri(image), "RGB"), image)


@pytest.mark.parametrize("changed_outside", [False, True])
def test_a_completion_over_the_truth_is_the_completion_and_no_known_pixel_is_covered(
    changed_outside: bool,
) -> None:
    rng = np.random.default_rng(0)
    truth, filled = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 1
    completion = np.where(mask[..., None] > 0, filled, truth)
    if changed_outside:
        completion[0, 0] = 255 - truth[0, 0]
    shown = _decoded(images.hole_uri(completion, truth, mask), "RGBA")
    over = shown[..., 3:] > 0
    assert np.array_equal(np.where(over, shown[..., :3], truth), completion)
    assert over[0, 0] == changed_outside, "a known pixel that was changed must be seen"
    assert int(over.sum()) == 64 + changed_outside


def test_csv_reads_back_and_no_cell_is_a_formula() -> None:
    table = [["model", "PSNR (dB)"], ['a, "b"\n', "-1.5"], ["=1+1", "2e-05"]]
    back = list(csv.reader(io.StringIO(as_csv(table))))
    assert back == [table[0], table[1], ["'=1+1", "2e-05"]]


def test_latex_and_markdown_escape_their_marks() -> None:
    table = [["model", "x"], ["50% & a_b #1 {c} \\d", "−1.0"]]
    assert r"50\% \& a\_b \#1 \{c\} \textbackslash{}d & $-$1.0 \\" in as_latex(table)
    assert as_markdown([["m"], ["a|b"]]).splitlines()[-1] == r"| a\|b |"


def test_a_model_of_the_paper_looks_the_same_in_every_report() -> None:
    assert line_styles([("x", "X"), ("glcic", "GLCIC")])["GLCIC"] == KNOWN["glcic"]
    assert line_styles([("glcic", "GLCIC")])["GLCIC"] == KNOWN["glcic"]


def test_ten_models_are_told_apart_also_in_greyscale() -> None:
    names = [*KNOWN, "a", "b", "c"]
    found = line_styles((n, n) for n in names)
    assert len({look.color for look in found.values()}) == 10
    assert len({look.marker for look in found.values()}) == 10


def test_colors_stand_out_on_light_and_dark_pages() -> None:
    for look in KNOWN.values():
        assert 0.3 < rgb_to_hsv(to_rgb(look.color))[2] < 0.9


def test_a_drawing_keeps_hostile_text_as_text_and_its_identifiers_to_itself() -> None:
    label = '<script>alert(1)</script> id="a" #010203 $x$'
    with svg.apply_style():
        drawn = []
        for name in ("one", "two"):
            figure, axes = svg.new_figure()
            axes.plot([0, 1], [0, 1], label=label)
            axes.legend()
            drawn.append(svg.to_svg(figure, name))
    assert "<script" not in drawn[0]
    assert '&lt;script&gt;alert(1)&lt;/script&gt; id="a" #010203 $x$' in drawn[0]
    assert "var(--ink-2)" in drawn[0]
    identifiers = [set(re.findall(r'id="([^"]+)"', d.replace(label, ""))) - {"a"} for d in drawn]
    assert not identifiers[0] & identifiers[1]
    assert "font-family" not in drawn[0]


def _about_people(experiment: Experiment) -> str:
    view = build_results_table(ReportContext(experiment))
    return f"{view['people']}."


def test_rows_that_name_different_people_are_told_where_intervals_are_explained(tmp_path: Path) -> None:
    experiment = load_experiment(make_experiment(tmp_path, models=("glcic", "mean"), pictures=0))
    assert "images of one person count as one." in _about_people(experiment)
    rows = experiment.rows.copy()
    rows.loc[rows["model"] == "mean", "identity"] //= 2
    mixed = _about_people(replace(experiment, rows=rows))
    assert "but rows name different people for 22 images: the list of people changed" in mixed
    # A list that was put there later, which older rows do not know, is another matter.
    rows["identity"] = experiment.rows["identity"].where(rows["model"] != "mean")
    assert "images of one person count as one." in _about_people(replace(experiment, rows=rows))
