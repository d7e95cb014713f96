"""``bench doctor`` and ``bench weights``: what is found, what is said where something is missing, and fetching."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from bench import backbones
from bench.backbones import Backbone
from bench.cli import cli
from bench.errors import UsageError
from bench.runner import doctor
from tests.bench.cli.test_cli import bench, error_of


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def published(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backbone]:
    """One backbone, published by a server on this machine; torch's cache is empty."""
    stream = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, stream)
    content = stream.getvalue()
    folder = workplace / "server"
    folder.mkdir()
    name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    backbone = Backbone(
        name="tiny", url=f"http://127.0.0.1:{server.server_port}/{name}", needed_by="tests", megabytes=1
    )
    monkeypatch.setenv("TORCH_HOME", str(workplace / "torch"))
    monkeypatch.setattr(backbones, "list_backbones", lambda: {"tiny": backbone})
    monkeypatch.setattr(doctor, "list_backbones", lambda: {"tiny": backbone})
    yield backbone
    server.shutdown()
    server.server_close()


def checks(**options: str) -> dict[str, doctor.SystemCheck]:
    return {check.name: check for check in doctor.examine_system(**options)}


def test_fetch_puts_the_published_file_where_torchvision_looks(published: Backbone) -> None:
    first = bench("weights", "fetch")
    assert first.exit_code == 0
    assert first.output == f"tiny: fetched to {published.file}\n"
    assert published.file.parent == Path(torch.hub.get_dir()) / "checkpoints"
    assert torch.equal(torch.load(published.file, weights_only=True)["weight"], torch.ones(3))
    age = published.file.stat().st_mtime_ns
    assert "is already cached" in bench("weights", "fetch", "tiny").output
    assert published.file.stat().st_mtime_ns == age
    assert json.loads(bench("weights", "list", "--json").output)[0]["state"] == "cached"


def test_a_damaged_or_altered_file_is_seen_and_replaced(published: Backbone) -> None:
    published.file.parent.mkdir(parents=True)
    for content, state in ((b"PK\x03\x04 cut off", "damaged"), (b"", "damaged"), (None, "altered")):
        if content is None:
            torch.save({"weight": torch.zeros(3)}, published.file)
        else:
            published.file.write_bytes(content)
        assert published.state() == state
        check = checks()["tiny"]
        assert check.state == ("failed" if state == "damaged" else "warning")
        assert check.remedy == "bench weights fetch tiny"
        assert bench("weights", "fetch").exit_code == 0
        assert published.state() == "cached"
        assert checks()["tiny"].state == "ok"


def test_a_download_that_is_not_the_published_file_is_refused(published: Backbone, workplace: Path) -> None:
    next((workplace / "server").iterdir()).write_bytes(b"something else")
    result = bench("weights", "fetch")
    assert result.exit_code == 1
    assert "failed: tiny: " in result.stderr
    assert "invalid hash value" in result.stderr
    assert not published.file.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/tiny-0.pth", "http://nowhere.invalid/tiny-0.pth"])
def test_without_a_network_fetch_says_what_to_do_and_loses_nothing(
    published: Backbone, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    away = Backbone(name="tiny", url=url, needed_by="tests", megabytes=1)
    away.file.parent.mkdir(parents=True)
    torch.save({"weight": torch.zeros(3)}, away.file)
    monkeypatch.setattr(backbones, "list_backbones", lambda: {"tiny": away})
    result = bench("weights", "fetch")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "failed: tiny: tiny-0.pth is not in torch's cache and cannot be downloaded ("
    )
    assert f"put {url} into hub/checkpoints under TORCH_HOME" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert away.state() == "altered"


def test_an_unknown_backbone_gets_a_suggestion() -> None:
    assert error_of("weights", "fetch", "alexnte") == "no backbone 'alexnte'; did you mean 'alexnet'?"
    with pytest.raises(UsageError, match="there are"):
        backbones.select_backbones(("x",))


def test_a_sound_machine_is_ready_and_told_as_text_and_json(published: Backbone) -> None:
    published.file.parent.mkdir(parents=True)
    published.file.write_bytes(b"")
    result = bench("doctor")
    assert result.exit_code == 1
    assert "-> bench weights fetch tiny" in result.output
    assert result.output.splitlines()[-1].startswith("1 failed: a run would fail")
    published.file.unlink()
    result = bench("doctor")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith("ready, ")
    told = json.loads(bench("doctor", "--json").output)
    assert told["ready"] is True
    topics = list(dict.fromkeys(check["topic"] for check in told["checks"]))
    assert topics == ["versions", "devices", "precision", "memory", "folders", "weights", "data"]
    assert all(check["remedy"] for check in told["checks"] if check["state"] != "ok")
    assert not list(Path.cwd().glob("runs*"))


def test_versions_that_are_too_old_or_missing(published: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package == "scipy":
            raise importlib.metadata.PackageNotFoundError
        return "1.0" if package == "torch" else real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = checks()
    assert found["torch"].state == "failed"
    assert found["torch"].found.startswith("1.0, needed is >=")
    assert found["torch"].remedy.startswith("pip install 'torch>=")
    assert (found["scipy"].state, found["scipy"].found) == ("failed", "not installed")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(published: Backbone, workplace: Path) -> None:
    workplace.chmod(0o500)
    try:
        found = checks()
    finally:
        workplace.chmod(0o700)
    assert found["results"].state == "failed"
    assert "Permission denied" in found["results"].found
    assert found["packs"].remedy == "set XDG_CACHE_HOME to a folder of your own"


def test_a_cache_that_is_a_file(published: Backbone, workplace: Path) -> None:
    (workplace / "cache").write_text("in the way")
    found = checks()["packs"]
    assert found.state == "failed"
    assert found.remedy == "set XDG_CACHE_HOME to a folder of your own"


def test_little_memory_and_disk(published: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda compute: 2 * 2**30)
    usage = type("Usage", (), {"free": 1})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage)
    found = checks()
    assert (found["cpu"].state, found["cpu"].found[:12]) == ("warning", "2.0 GiB free")
    assert (found["results"].state, found["packs"].remedy) == ("failed", "bench clean --packs")


def test_data_is_looked_at(published: Backbone, pictures_dir: Path, workplace: Path) -> None:
    assert checks(data=str(pictures_dir))[pictures_dir.name].found.startswith("60 images in ")
    gone = checks(data="no/such")["no/such"]
    assert (gone.state, gone.found) == ("failed", "--data no/such: no such file or folder")
    picture = next(pictures_dir.iterdir()).read_bytes()
    with zipfile.ZipFile(workplace / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/000001.png", picture[: len(picture) // 2])
    found = checks(data=str(workplace))
    assert found["official split"].remedy == "put list_eval_partition.txt beside the images"
    assert found["identities"].remedy == "put identity_CelebA.txt beside the images"
    assert found["000001.jpg"].state == "warning", found
    result = CliRunner().invoke(cli, ["doctor", "--data", "no/such"])
    assert result.exit_code == 1
