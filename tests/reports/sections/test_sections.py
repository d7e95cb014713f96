"""Parts of the page: choice of pictures, tables to copy, looks, drawings."""

from __future__ import annotations

import base64
import csv
import io
import re

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image

from reports import svg
from reports.export import as_csv, as_latex, as_markdown
from reports.palette import KNOWN, line_styles
from reports.sections import gallery


def test_pictures_are_chosen_by_rule_each_once() -> None:
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(24, 2, 48), "b": rng.normal(23, 2, 48)}
    chosen = gallery.choose_images(scores, 48)
    places = [c.place for c in chosen]
    assert len(places) == len(set(places))
    by_best = {label: c.place for c in chosen for label in c.best_of}
    by_worst = {label: c.place for c in chosen for label in c.worst_of}
    assert by_best == {label: int(v.argmax()) for label, v in scores.items()}
    assert by_worst == {label: int(v.argmin()) for label, v in scores.items()}
    spread = np.abs(scores["a"] - scores["b"])
    disagreement = {c.place for c in chosen if "most disagreement" in c.rules}
    assert disagreement == set(np.argsort(-spread)[: gallery.NUM_DISAGREEMENT].tolist())
    means = (scores["a"] + scores["b"]) / 2
    (median,) = (c.place for c in chosen if "median" in c.rules)
    assert means[median] == np.sort(means)[24]


def test_lower_is_better_turns_best_and_worst_round() -> None:
    (first, *_) = [
        c for c in gallery.choose_images({"a": np.arange(9.0)}, 9, higher_is_better=False) if c.best_of
    ]
    assert first.place == 0


@pytest.mark.parametrize("count", [1, 2, 48])
def test_random_pictures_do_not_depend_on_scores(count: int) -> None:
    def random(scores: dict[str, np.ndarray]) -> list[int]:
        return [c.place for c in gallery.choose_images(scores, count) if "random" in c.rules]

    assert random({}) == random({"a": np.random.default_rng(1).normal(size=count)})


def test_images_without_scores_are_only_chosen_at_random() -> None:
    chosen = gallery.choose_images({"a": np.full(5, np.nan)}, 5)
    assert {r for c in chosen for r in c.reasons(1)} == {"random"}


def test_an_embedded_picture_is_the_picture() -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    image = np.stack([np.tile(ramp, (64, 1))] * 3, axis=-1)
    head, data = gallery.data_uri(image).split(",")
    assert head == "data:image/webp;base64"
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert np.abs(back.astype(int) - image).mean() < 2


def test_the_masked_input_hides_the_hole_and_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 1
    shown = gallery.masked_input(image, mask)
    assert (shown[mask == 0] == image[mask == 0]).all()
    assert np.unique(shown[mask == 1]).size == 1


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
    assert len({look.colour for look in found.values()}) == 10
    assert len({look.marker for look in found.values()}) == 10


def test_colours_stand_out_on_light_and_dark_pages() -> None:
    for look in KNOWN.values():
        assert 0.3 < rgb_to_hsv(to_rgb(look.colour))[2] < 0.9


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
