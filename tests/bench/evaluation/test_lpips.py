"""LPIPS against the ``lpips`` package, and what happens without its backbones."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from bench import backbones
from bench.backbones import MetricUnavailableError
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.lpips import LpipsNetwork, lpips_distance, without_autocast
from bench.evaluation.metrics import load_metric, prepare_metrics

CPU = torch.device("cpu")
BACKBONES = ("alex", "vgg", "squeeze")
FILES = {"alex": "alexnet-owt-*.pth", "vgg": "vgg16-*.pth", "squeeze": "squeezenet1_1-*.pth"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Networks are kept for the life of the process; tests that move the cache need new ones."""
    lpips_distance.cache_clear()
    yield
    lpips_distance.cache_clear()


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weight cache and no way to fill it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def _images(size: int = 64, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    slope = torch.linspace(0, 200, size).expand(count, 3, size, size)
    truth = (slope + 40 * torch.rand(slope.shape, generator=generator)).to(torch.uint8)
    made = truth.clone()
    hole = slice(size // 4, 3 * size // 4)
    made[:, :, hole, hole] = 128
    return truth, made


def _package(backbone: str) -> torch.nn.Module:
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        import lpips

        network: torch.nn.Module = lpips.LPIPS(net=backbone, verbose=False)
        return network.eval()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_equal_to_the_package(backbone_folder: Path, backbone: str) -> None:
    """Oracle: the ``lpips`` package called as its README says, one pair at a time, to 1e-5."""
    if not list(backbone_folder.glob(FILES[backbone])):
        pytest.skip(f"needs {FILES[backbone]}")
    truth, made = _images()
    ours = lpips_distance(backbone, CPU)(made, truth)
    network = _package(backbone)
    for i, value in enumerate(ours):
        # lpips.im2tensor: levels over 127.5, minus 1.
        pair = [torch.from_numpy(np.float32(x[i : i + 1].numpy() / 127.5 - 1)) for x in (made, truth)]
        with torch.no_grad():
            assert value.item() == pytest.approx(network(*pair).item(), abs=1e-5)
    assert ours.dtype == torch.float64
    assert (ours > 0.01).all()


@pytest.mark.gpu
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_gpu_gives_the_same_distances(backbone_folder: Path, backbone: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if not list(backbone_folder.glob(FILES[backbone])):
        pytest.skip(f"needs {FILES[backbone]}")
    truth, made = _images()
    there = lpips_distance(backbone, torch.device("cuda"))(made.cuda(), truth.cuda()).cpu()
    np.testing.assert_allclose(there, lpips_distance(backbone, CPU)(made, truth), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("picture", "published"), [("ex_p0", 0.722), ("ex_p1", 0.138)])
def test_the_published_example_distances(backbone_folder: Path, picture: str, published: float) -> None:
    """Oracle: what the package's authors print for the three pictures of their repository (``imgs/``), AlexNet."""
    folder = os.environ.get("INPAINT_BENCH_LPIPS_EXAMPLES")
    if not folder:
        pytest.skip("needs ex_ref.png, ex_p0.png, ex_p1.png: INPAINT_BENCH_LPIPS_EXAMPLES, their folder")
    pair = []
    for name in (picture, "ex_ref"):
        with Image.open(Path(folder) / f"{name}.png") as image:
            pair.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None])
    assert lpips_distance("alex", CPU)(*pair).item() == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_network_is_the_packages_to_the_last_bit(backbone_folder: Path, backbone: str) -> None:
    if not list(backbone_folder.glob(FILES[backbone])):
        pytest.skip(f"needs {FILES[backbone]}")
    pair = [torch.from_numpy(np.float32(x.numpy() / 127.5 - 1)) for x in _images()]
    with torch.inference_mode():
        assert torch.equal(LpipsNetwork(backbone)(*pair), _package(backbone)(*pair))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_nothing_is_asked_of_torchvision_by_pretrained(
    backbone_folder: Path, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchvision without its shim for ``pretrained=``: builders that know ``weights=`` only, as announced."""
    if not list(backbone_folder.glob(FILES[backbone])):
        pytest.skip(f"needs {FILES[backbone]}")
    for name in ("alexnet", "vgg16", "squeezenet1_1"):
        builder = inspect.unwrap(getattr(torchvision.models, name))
        assert "pretrained" not in inspect.signature(builder).parameters
        monkeypatch.setattr(torchvision.models, name, builder)
    with pytest.raises(TypeError, match="pretrained"):
        _package(backbone)
    truth, made = _images(count=1)
    assert lpips_distance(backbone, CPU)(made, truth).item() > 0.01


def test_identity_symmetry_and_batches(backbone_folder: Path) -> None:
    distance = lpips_distance("alex", CPU)
    truth, made = _images(count=2)
    assert distance(truth, truth).abs().max() == 0
    torch.testing.assert_close(distance(made, truth), distance(truth, made), rtol=0, atol=1e-6)
    many = distance(made.repeat(9, 1, 1, 1), truth.repeat(9, 1, 1, 1))
    torch.testing.assert_close(many, distance(made, truth).repeat(9), rtol=0, atol=1e-6)


def test_autocast_of_the_caller_changes_nothing(backbone_folder: Path) -> None:
    truth, made = _images(count=1)
    expected = lpips_distance("alex", CPU)(made, truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lpips_distance("alex", CPU)(made, truth), expected)


@pytest.mark.parametrize("deterministic", [False, True])
def test_full_precision_turns_off_tf32_and_leaves_cudnn_on(
    deterministic: bool,
) -> None:
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=True, deterministic=deterministic, allow_tf32=True):
        with without_autocast(CPU):
            assert cudnn.enabled
            assert not cudnn.allow_tf32
            assert cudnn.deterministic == deterministic
        assert cudnn.allow_tf32
    with cudnn.flags(enabled=False), without_autocast(CPU):
        assert not cudnn.enabled


def test_loading_is_silent_and_draws_nothing_from_torchs_generator(
    backbone_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.random.get_rng_state()
    lpips_distance("alex", CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_a_cached_backbone_is_never_fetched(backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("fetched although cached")

    monkeypatch.setattr(backbones, "urlopen", fetched)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    ready, unavailable = prepare_metrics(["lpips_alex"], CPU)
    assert list(ready) == ["lpips_alex"]
    assert not unavailable


def test_without_a_backbone_the_others_go_on_with_the_reason(no_cache: Path) -> None:
    ready, unavailable = prepare_metrics(["psnr_db", "ssim", "lpips_alex"], CPU)
    assert list(ready) == ["psnr_db", "ssim"]
    reason = unavailable["lpips_alex"]
    assert reason.startswith("alexnet-owt-7be5be79.pth is not in torch's cache and cannot be downloaded")
    assert "\n" not in reason
    assert not list(no_cache.glob("*.pth")), "nothing may be left that looks like weights"


def test_the_metric_itself_raises_rather_than_giving_a_number(no_cache: Path) -> None:
    truth, made = _images()
    pictures = ImageBatch(truth, made, made.float() / 255, torch.ones(3, 1, 64, 64))
    with pytest.raises(MetricUnavailableError, match="vgg16"):
        load_metric("lpips_vgg").function(pictures)


def test_a_server_that_never_answers_is_given_up(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up of names that hangs is covered by no socket's timeout."""
    released = threading.Event()

    def hang(*_: object, **__: object) -> None:
        released.wait()
        raise URLError("too late")

    monkeypatch.setattr(backbones, "_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(backbones, "urlopen", hang)
    _, unavailable = prepare_metrics(["lpips_alex"], CPU)
    released.set()
    assert "no answer from download.pytorch.org" in unavailable["lpips_alex"]


def test_a_server_that_falls_silent_during_the_download_is_given_up(
    no_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    seen: list[float | None] = []

    def download(*_: object, **__: object) -> None:
        seen.append(socket.getdefaulttimeout())
        raise URLError(TimeoutError("timed out"))

    monkeypatch.setattr(backbones, "_reach", lambda url: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    _, unavailable = prepare_metrics(["lpips_alex"], CPU)
    assert "(timed out)" in unavailable["lpips_alex"]
    assert seen == [backbones._TIMEOUT_SECONDS]
    assert socket.getdefaulttimeout() is None


def test_a_damaged_file_is_named_and_kept(no_cache: Path) -> None:
    no_cache.mkdir(parents=True)
    file = no_cache / "alexnet-owt-7be5be79.pth"
    file.write_bytes(b"PK\x03\x04 cut off")
    _, unavailable = prepare_metrics(["lpips_alex"], CPU)
    assert f"{file.name} in torch's cache is not readable" in unavailable["lpips_alex"]
    assert unavailable["lpips_alex"].endswith("delete it")
    assert file.read_bytes() == b"PK\x03\x04 cut off"
    assert [path.name for path in no_cache.iterdir()] == [file.name]
