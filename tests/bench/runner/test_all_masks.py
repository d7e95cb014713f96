"""``bench run --mask all`` on every kind of source."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from bench.cli import main
from bench.data.procedural_faces import render_faces
from masks import registry
from reports import render
from reports.results.schema import read_rows

COUNT = 48


def _pictures(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, face in enumerate(render_faces(list(range(COUNT)), 64)):
        Image.fromarray(face).save(folder / f"{i + 1:06d}.png")
    return folder


def _lists(root: Path) -> Path:
    names = [f"{i + 1:06d}.png" for i in range(COUNT)]
    parts = "".join(f"{name} {0 if i < 36 else 1 if i < 40 else 2}\n" for i, name in enumerate(names))
    root.joinpath("list_eval_partition.txt").write_text(parts)
    people = "".join(f"{name} {i // 2}\n" for i, name in enumerate(names))
    root.joinpath("identity_CelebA.txt").write_text(people)
    return root


def _source(kind: str, place: Path) -> str:
    if kind == "faces":
        return kind
    if kind == "folder":
        _pictures(place / "mine" / "deep" / "down")
        return str(place / "mine")
    folder = _pictures(place / "celeba" / "img_align_celeba")
    if kind == "celeba zip":
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"img_align_celeba/{path.name}")
                path.unlink()
        folder.rmdir()
    return str(_lists(folder.parent))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["faces", "folder", "celeba", "celeba zip"])
def test_all_masks_on_every_source(
    workplace: Path, unet: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing two dozen masks takes far longer than scoring them: where every mask applies, one page stands for three.
    page_is_drawn = kind in ("folder", "celeba zip")
    if not page_is_drawn:
        monkeypatch.setattr(render, "render_report", lambda folder, target, **_: target)
    models = "mean,test-unet" if kind == "celeba zip" else "mean"
    arguments = ["--models", models, "--models-from", str(unet), "--mask", "all", "--preset", "smoke"]
    if not page_is_drawn:
        arguments += ["--no-pictures"]
    with pytest.raises(SystemExit) as stop:
        main(["run", *arguments, "--data", _source(kind, workplace), "--size", "32", "--name", "x"])
    assert stop.value.code == 0
    manifest = json.loads(Path("runs/x/manifest.json").read_text())
    done = {(c["model"], c["mask"]) for c in manifest["cells"] if c["status"] == "done"}
    # Parts of a face are masks of aligned faces alone; on other images their cells do not apply.
    apply = [
        m for m in registry.mask_names() if kind != "folder" or not registry.mask_info(m).needs_aligned_faces
    ]
    assert done == {(model, mask) for model in models.split(",") for mask in apply}
    assert all(c["status"] in ("done", "not-applicable") for c in manifest["cells"])
    assert manifest["data"]["name"] == {"faces": "faces", "folder": "mine"}.get(kind, "celeba")
    rows = read_rows(next(Path("runs/x").rglob("results.parquet")))
    assert rows["psnr_db"].between(5, 60).all()
    if page_is_drawn:
        page = Path("reports/x/index.html").read_text(encoding="utf-8")
        assert all(f"“{mask}”" in page for mask in apply)
