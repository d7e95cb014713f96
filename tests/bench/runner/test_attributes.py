"""CelebA's attributes from ``list_attr_celeba.txt`` to the table: kept by a run, in no key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from bench.data.procedural_faces import render_faces
from bench.runner.run_folder import RunFolder
from reports.results.attributes import read_attributes
from reports.results.experiment import load_experiment
from reports.results.recorded_files import ATTRIBUTES

COUNT = 60


@pytest.fixture
def celeba(workplace: Path) -> Path:
    """A replica of CelebA's layout: aligned images of its size, split, people."""
    folder = workplace / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, COUNT + 1)]
    for name, face in zip(names, render_faces(list(range(COUNT)), 64), strict=True):
        Image.fromarray(face).resize((178, 218)).save(folder / "img_align_celeba" / name)
    parts = "".join(f"{name} {(i // 20)}\n" for i, name in enumerate(names))
    (folder / "list_eval_partition.txt").write_text(parts)
    (folder / "identity_CelebA.txt").write_text("".join(f"{n} {i // 2}\n" for i, n in enumerate(names)))
    return folder


def attributes_as_published(folder: Path) -> None:
    """As the archive has them: a count, the names, then a line an image with columns of 1 and -1."""
    lines = [f"{COUNT}", "Eyeglasses Smiling "]
    lines += [
        f"{i:06d}.jpg {1 if i % 5 == 0 else -1:2d} {1 if i % 2 else -1:2d}" for i in range(1, COUNT + 1)
    ]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_a_list_of_people_that_is_mended_later_reaches_every_result(
    celeba: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Intervals are over people: cells are measured again, and what keeps the earlier list is said or refused."""

    def run(name: str, models: str) -> tuple[int, str, str]:
        return bench(
            capsys, "run", "--models", models, "--mask", "center", "--data", "celeba", "--size", "32", "--name", name,
            "--preset", "smoke", "--test-images", "all",
        )  # fmt: skip

    right = celeba / "identity_CelebA.txt"
    unread = right.rename(celeba / "identity_CelebA (1).txt")
    code, _, err = run("a", "mean,mean-image")
    assert code == 0
    assert "identity_CelebA (1).txt is not read" in err
    assert load_experiment(Path("runs/a")).rows["identity"].isna().all()
    unread.rename(right)
    # A model alone: the other's rows stay as they are, with a word.
    for _ in range(2):  # as long as it is so
        code, _, err = run("a", "mean")
        assert code == 0
        assert "the earlier one is still behind 1 cell of earlier commands (Mean image)" in " ".join(
            err.split()
        )
    assert run("a", "mean,mean-image")[0] == 0
    assert load_experiment(Path("runs/a")).rows["identity"].nunique() == 10
    assert "2 cells, 2 of them done already" in run("a", "mean,mean-image")[2]
    assert "earlier commands" not in run("a", "mean")[2]
    pictures = Path("pictures")
    pictures.mkdir()
    for name in (f"{k:06d}.png" for k in range(41, 61)):
        Image.new("RGB", (32, 32)).save(pictures / name)

    def score(label: str) -> tuple[int, str]:
        code, _, err = bench(capsys, "score", "pictures", "--into", "a", "--mask", "center", "--label", label)
        return code, " ".join(err.split())

    assert score("other")[0] == 0
    # Another list again: nothing is put beside rows that all know other people.
    lines = right.read_text().splitlines()
    right.write_text("\n".join(f"{line.split()[0]} {k // 5}" for k, line in enumerate(lines)))
    code, err = score("other")
    assert code == 2, err
    assert "the list of people is another than when it was run" in err
    assert run("b", "mean")[0] == 0
    code, _, err = bench(capsys, "merge", "a", "b", "--name", "c")
    assert code == 2
    assert "who is shown" in " ".join(err.split())
    code, _, err = bench(capsys, "compare", "a", "b", "--metrics", "psnr_db")
    assert code == 0
    assert "note: rows of a and b name different people for the same images" in " ".join(err.split())
    # Where some of the rows know these people, the others are brought up one by one, and named until then.
    assert run("a", "mean-image")[0] == 0
    assert run("b", "mean")[0] == 0
    code, _, err = bench(capsys, "merge", "a", "b", "--name", "c")
    assert code == 2, "rows of one experiment that name different people are refused, whichever comes first"
    code, err = score("third")
    assert code == 0
    assert "still behind 2 cells of earlier commands (Mean pixel, other (scored from a folder))" in err
    code, err = score("other")
    assert code == 0
    assert "still behind 1 cell of earlier commands (Mean pixel)" in err
    assert run("a", "mean")[0] == 0
    assert "still behind" not in score("other")[1]
    assert bench(capsys, "merge", "a", "b", "--name", "c")[0] == 0


@pytest.mark.long
def test_a_list_that_is_put_there_later_is_used_without_computing(
    celeba: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (
        "run",
        "--models",
        "mean",
        "--mask",
        "center",
        "--data",
        "celeba",
        "--size",
        "32",
        "--name",
        "faces",
    )
    assert bench(capsys, *run)[0] == 0
    store = RunFolder("faces", Path())
    before = store.read_manifest()
    assert before is not None
    assert not (store.folder / ATTRIBUTES).exists()
    code, _, err = bench(capsys, "export", "faces", "--by-attribute", "Smiling")
    assert code == 2
    assert "no attributes of its images are known" in err

    attributes_as_published(celeba)
    assert bench(capsys, *run)[0] == 0
    after = store.read_manifest()
    assert after is not None
    assert [c["what"] for c in after["cells"]] == [c["what"] for c in before["cells"]], "in no key"
    digest = after["data"]["attributes_sha256"]
    kept = read_attributes(store.folder, digest)
    assert len(kept) == 20, "of the test images"
    assert np.array_equal(kept["Smiling"], [int(name[:6]) % 2 == 1 for name in kept.index])
    code, out, _ = bench(capsys, "export", "faces", "--by-attribute", "Smiling,Eyeglasses", "--format", "csv")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("attribute,has,mask,")
    assert {tuple(line.split(",")[:2]) for line in lines[1:]} == {
        (name, has) for name in ("Smiling", "Eyeglasses") for has in ("True", "False")
    }
    # A command for which the list has gone leaves what is there, and its digest.
    (celeba / "list_attr_celeba.txt").rename("list_attr_celeba.txt")
    assert bench(capsys, *run)[0] == 0
    manifest = store.read_manifest()
    assert manifest is not None
    assert manifest["data"]["attributes_sha256"] == digest
    page = (Path("reports") / "faces" / "index.html").read_text(encoding="utf-8")
    assert "By attribute" in page
    assert "not Eyeglasses" in page
    code, _, err = bench(capsys, "export", "faces", "--by-attribute", "Smile")
    assert code == 2
    assert "no attribute 'Smile'; there are Eyeglasses, Smiling" in err
    # Gone, it is no table of few attributes: status, command and page say so, and the run writes it again.
    attributes_as_published(celeba)
    (store.folder / ATTRIBUTES).unlink()
    code, out, _ = bench(capsys, "status", "faces")
    assert code == 1
    assert f"{ATTRIBUTES} is empty or gone" in out
    code, _, err = bench(capsys, "export", "faces", "--by-attribute", "all")
    assert code == 2
    assert f"{ATTRIBUTES}, in which the attributes of its images are kept, is empty or gone" in err
    code, _, err = bench(capsys, "report", "faces")
    assert code == 0
    assert f"note: {ATTRIBUTES} is empty or gone" in err
    page = (Path("reports") / "faces" / "index.html").read_text(encoding="utf-8")
    assert f"<li><code>{ATTRIBUTES}</code></li>" in page
    assert bench(capsys, *run)[0] == 0
    assert bench(capsys, "status", "faces")[0] == 0
    assert len(read_attributes(store.folder, digest)) == 20
