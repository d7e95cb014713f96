"""The worth of the identity leak: an effect that was put in is found, one that is difficulty alone is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.context import ReportContext
from reports.render import render_report
from reports.results.experiment import load_experiment
from reports.results.schema import UNTRAINED
from reports.sections import setup
from reports.statistics.identity_leak import identity_leak
from tests.reports.synthetic import make_experiment

PEOPLE, PICTURES = 300, 3
NEW = list(range(200, PEOPLE))


def _rows(*, effect: float, harder: float, seeds: int = 2) -> pd.DataFrame:
    """A network and a fill: pictures of new people are ``harder`` dB harder, known ones gain ``effect``."""
    rng = np.random.default_rng(5)
    person = np.repeat(np.arange(PEOPLE), PICTURES)
    new = np.isin(person, NEW)
    ground = 24 + rng.normal(0, 1.5, PEOPLE)[person] + rng.normal(0, 1, len(person)) - harder * new
    parts = []
    for label, train_mask, count in (("net", "center", seeds), ("mean-image", UNTRAINED, 1)):
        for seed in range(count):
            psnr = ground + rng.normal(0, 0.3, len(person))
            if label == "net":
                psnr += effect * ~new
            parts.append(
                pd.DataFrame(
                    {
                        "mask": "center",
                        "model": label,
                        "label": label,
                        "train_mask": train_mask,
                        "seed": seed,
                        "image_id": [f"{i:04d}" for i in range(len(person))],
                        "identity": pd.array(person, dtype="Int64"),
                        "identical": False,
                        "psnr_db": psnr,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def test_what_knowing_a_person_is_worth_is_found_beyond_how_hard_pictures_are() -> None:
    table = identity_leak(_rows(effect=0.4, harder=1.0), ["psnr_db"], NEW, resamples=2000)
    (line,) = table.to_dict("records")
    assert (line["label"], line["reference"]) == ("net", "mean-image")
    assert (line["n_known"], line["n_new"], line["people_known"], line["people_new"]) == (600, 300, 200, 100)
    assert line["difference"] == pytest.approx(1.4, abs=0.5)  # the leak and the difficulty together
    assert line["net"] == pytest.approx(0.4, abs=0.06)
    assert line["net_low"] < 0.4 < line["net_high"]
    assert line["net_high"] - line["net_low"] < 0.2 < line["high"] - line["low"]


def test_difficulty_alone_is_no_leak() -> None:
    (line,) = identity_leak(_rows(effect=0.0, harder=1.0), ["psnr_db"], NEW, resamples=2000).to_dict(
        "records"
    )
    assert line["low"] > 0
    assert line["net_low"] < 0 < line["net_high"]


@pytest.mark.long
def test_the_interval_holds_what_it_should_as_often_as_it_says() -> None:
    """Oracle: the truth, over 200 draws of people. 95 % of them, give or take three standard errors."""
    held = 0
    for draw in range(200):
        rng = np.random.default_rng(draw)
        person = np.repeat(np.arange(60), 2)
        rows = _rows(effect=0, harder=0, seeds=1).iloc[: len(person)].copy()
        rows["identity"] = pd.array(person, dtype="Int64")
        rows["psnr_db"] = rng.normal(0, 1, 60)[person] + rng.normal(0, 1, len(person))
        (line,) = identity_leak(rows, ["psnr_db"], range(40, 60), resamples=400).to_dict("records")
        held += line["low"] <= 0 <= line["high"]
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200) <= held / 200 <= 0.95 + 3 * np.sqrt(0.95 * 0.05 / 200)


def test_without_a_fill_there_is_the_plain_difference_alone() -> None:
    rows = _rows(effect=0.4, harder=0.0)
    (line,) = identity_leak(rows[rows["label"] == "net"], ["psnr_db"], NEW, resamples=200).to_dict("records")
    assert line["reference"] is None
    assert np.isnan(line["net"])
    assert np.isfinite(line["difference"])


@pytest.mark.parametrize("new", [[], range(PEOPLE)])
def test_one_kind_of_people_alone_shows_nothing(new: list[int]) -> None:
    assert identity_leak(_rows(effect=0.4, harder=0.0), ["psnr_db"], new).empty


def _page(folder: Path, **data: object) -> ReportContext:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["data"] |= data
    path.write_text(json.dumps(manifest))
    return ReportContext(load_experiment(folder))


@pytest.mark.usefixtures("no_drawings")
def test_the_page_says_it_beside_the_data(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim", "mean"), pictures=0, procedural=False)
    page = _page(folder)
    people = sorted(page.rows["identity"].dropna().unique())
    page = _page(folder, unseen_identities=[int(p) for p in people[::3]], duplicates=[["a.jpg", "<b>.jpg"]])
    context = setup.build_identity_leak(page)
    assert context is not None
    assert [line["method"].label for line in context["lines"]] == ["MGS-IIM"] * 2  # PSNR and SSIM
    html = render_report(folder, tmp_path / "report").read_text()
    assert "What the split leaks" in html
    assert f"{context['counts']['n_known']} test images show people who are in training too" in html
    assert "1 exact duplicate across splits" in html
    assert "<code>a.jpg</code> = <code>&lt;b&gt;.jpg</code>" in html
    _page(folder, unseen_identities=[], duplicates=[])
    plain = render_report(folder, tmp_path / "report").read_text()
    assert "Every test image shows a person who is in training too" in plain
    assert "No image of one split is exactly equal to one of another" in plain


@pytest.mark.usefixtures("no_drawings")
@pytest.mark.parametrize("everybody", [False, True])
def test_nothing_is_said_where_nobody_is_known(tmp_path: Path, everybody: bool) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim", "mean"), pictures=0, procedural=False)
    people = {int(p) for p in _page(folder).rows["identity"].dropna()} if everybody else None
    _page(folder, unseen_identities=sorted(people) if people else None)
    assert "What the split leaks" not in render_report(folder, tmp_path / "report").read_text()
