"""Any program as a model: ``--models exec:FILE.toml`` runs it on the suite's images and masks.

The file says how the program is called::

    label = "G'MIC, PDE"
    command = "gmic -v -1 {input} {mask} channels[1] 0 inpaint_pde[0] [1],75%,2,20 keep[0] -o {output}"
    timeout_seconds = 60

``{input}`` is an RGB PNG whose hole is black, ``{mask}`` an 8-bit PNG (white = hole), ``{output}`` where the program
writes its completion. With ``mode = "folder"`` these are folders of images of the same names, and the program runs once
a batch instead of once an image.

A program that draws random numbers takes ``{seed}``, an integer that is a pure function of the training's seed, the
number of the sample and the image's name (:func:`program_seed`), so that its samples depend on neither order nor batch.
A folder has an image for each call then; with ``{seeds}`` instead, a text file with a line ``NAME SEED`` for each image
of the folder, the program still runs once a batch.

Completions are cached by the content of everything that decides them (command, files that it names, environment, seed,
image and mask), so an interrupted evaluation resumes image by image. Known pixels are restored by the composite,
whatever the program did to them.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.base import Batch, Completion, composite
from models.classical import TrainingFreeBaseline
from models.discovery import PROGRAM_PREFIX, find_user_file
from models.errors import InvalidModelError, MissingPackageError, ModelError
from models.registry import ModelCard, ModelEntry, did_you_mean

#: Seconds of a year: what a call of a program may take at most.
_LONGEST_CALL = 365 * 24 * 3600
_PLACEHOLDERS = ("{input}", "{mask}", "{output}")
#: Of what a program wrote: no format that has Pillow call another program (EPS).
_OUTPUT_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
#: Fields of the TOML file that describe the program rather than its call.
_DESCRIPTION = ("name", "label", "summary", "paper")


@dataclass(frozen=True, kw_only=True)
class ExternalProgramConfig:
    """How a program is called.

    Attributes:
        command: its words, with ``{input}``, ``{mask}``, ``{output}`` and, if it draws random numbers, ``{seed}``, or
            ``{seeds}`` in folder mode.
        mode: ``image`` calls it for every image, ``folder`` for every batch.
        timeout_seconds: for one call.
        environment: variables that it gets besides those of this process, as ``(name, value)``.
        digests: ``(word, SHA-256)`` of every word of the command that names a file, the program itself included.
    """

    command: tuple[str, ...]
    mode: Literal["image", "folder"] = "image"
    timeout_seconds: float = 600.0
    environment: tuple[tuple[str, str], ...] = ()
    digests: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        missing = [p for p in _PLACEHOLDERS if not any(p in word for word in self.command)]
        if missing:
            raise ValueError(f"command must contain {', '.join(missing)}")
        if self.mode not in ("image", "folder"):
            raise ValueError(f"mode must be 'image' or 'folder', not {self.mode!r}")
        if self.mode == "image" and any("{seeds}" in word for word in self.command):
            raise ValueError('{seeds} is of mode = "folder"; the seed of a single image is {seed}')
        limit: object = self.timeout_seconds
        # Above, the operating system's clock ends; and true is a number to Python.
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= _LONGEST_CALL:
            raise ValueError(
                f"timeout_seconds must be a number above 0, up to {_LONGEST_CALL:,}; found {limit!r:.40}"
            )


def program_seed(seed: int, sample: int, image_id: str) -> int:
    """Return the ``{seed}`` of an image, in [0, 2^31), which every random generator takes: a pure function.

    >>> program_seed(0, 0, "a.png"), program_seed(0, 1, "a.png"), program_seed(0, 0, "b.png")
    (580051105, 1220231009, 834169881)
    """
    digest = hashlib.sha256(f"program\0{seed}\0{sample}\0{image_id}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


class ExternalProgram(TrainingFreeBaseline):
    """Runs the program of its config."""

    Config: ClassVar[type] = ExternalProgramConfig

    def __init__(self, config: ExternalProgramConfig, task: Any) -> None:
        super().__init__(config, task)
        self._calls: list[dict[str, Any]] = []

    @classmethod
    def is_seeded(cls, config: ExternalProgramConfig) -> bool:
        """Return whether the command takes a seed."""
        return any(place in word for word in config.command for place in ("{seed}", "{seeds}"))

    @classmethod
    def draws_samples(cls, config: ExternalProgramConfig) -> bool:
        """Return whether the command takes a seed: each sample of an image has another one."""
        return cls.is_seeded(config)

    @classmethod
    def requirements(cls, config: ExternalProgramConfig) -> None:
        """Raise :class:`models.errors.MissingPackageError` if the program is not installed."""
        if shutil.which(config.command[0]) is None:
            raise MissingPackageError(
                f"the program {config.command[0]!r} is not found: install it, or give its path in 'command'"
            )

    def complete(self, batch: Batch) -> Completion:
        """Return the first sample of each image."""
        return self.sample(batch, 0)

    def sample(self, batch: Batch, sample: int) -> Completion:
        """Return completion number ``sample`` of each image; the same for every number if there is no seed."""
        names = batch.names() if self.is_seeded(self.config) else ()
        raw = self.fill(batch.image, batch.mask, [program_seed(self.task.seed, sample, n) for n in names])
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def fill(self, image: Tensor, mask: Tensor, seeds: Sequence[int] = ()) -> Tensor:
        """Return the program's completions of ``image`` ``(N, 3, H, W)`` where ``mask`` is 1.

        Args:
            image: in [0, 1].
            mask: ``(N, 1, H, W)``.
            seeds: N of them; none for a program that takes no seed.

        Raises:
            ModelError: the program failed, took too long, or wrote no image of the right size.
        """
        pictures = (image.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        holes = (mask[:, 0] > 0.5).cpu().numpy()
        pairs = [
            # Zeroed under the hole, so that nothing hidden can be read.
            (np.ascontiguousarray(p * ~h[..., None]), h.astype(np.uint8) * 255)
            for p, h in zip(pictures, holes, strict=True)
        ]
        # A program without a seed completes an image the same way in every training: one cached file serves all.
        own: list[int | None] = [*seeds] or [None] * len(pairs)
        targets = [self._cached(*pair, seed) for pair, seed in zip(pairs, own, strict=True)]
        missing = [i for i, target in enumerate(targets) if not target.is_file()]
        # One {seed} for a whole folder would be drawn on in the order of its images, and change with the batch.
        apart = self.config.mode == "image" or any("{seed}" in word for word in self.config.command)
        groups = [[i] for i in missing] if apart else [missing] if missing else []
        for group in groups:
            self._run([pairs[i] for i in group], [targets[i] for i in group], [own[i] for i in group])
        filled = np.stack([_read(t, pictures.shape[1:3]) for t in targets])
        return torch.from_numpy(filled).permute(0, 3, 1, 2).to(image) / 255

    def records(self) -> list[dict[str, Any]]:
        """Return what every call since the construction read and wrote, by digest, and how long it took."""
        return list(self._calls)

    def _cached(self, picture: NDArray[np.uint8], hole: NDArray[np.uint8], seed: int | None) -> Path:
        """Where the completion of this image under this mask, with this seed, is kept."""
        config = self.config
        # Everything besides the pixels that decides what the program writes.
        call = repr((config.command, config.mode, config.environment, config.digests))
        # With the shape, since other images may hold the same bytes in other rows.
        content = hashlib.sha256(picture.tobytes() + hole.tobytes() + repr((picture.shape, seed)).encode())
        folder = (
            platformdirs.user_cache_path("inpaint-bench") / "external-programs" / _sha256(call.encode())[:16]
        )
        return folder / f"{content.hexdigest()[:32]}.png"

    def _run(
        self,
        pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
        targets: Sequence[Path],
        seeds: Sequence[int | None],
    ) -> None:
        """Call the program once for these images and keep what it wrote."""
        with tempfile.TemporaryDirectory(prefix="inpaint-bench-") as scratch:
            folders = {part: Path(scratch) / part for part in ("input", "mask", "output")}
            for folder in folders.values():
                folder.mkdir()
            names = [f"{i:05d}.png" for i in range(len(pairs))]
            for name, (picture, hole) in zip(names, pairs, strict=True):
                Image.fromarray(picture).save(folders["input"] / name)
                Image.fromarray(hole).save(folders["mask"] / name)
            single = self.config.mode == "image"
            places = {part: str(folder / names[0] if single else folder) for part, folder in folders.items()}
            listed = Path(scratch) / "seeds.txt"
            listed.write_text("".join(f"{n} {s}\n" for n, s in zip(names, seeds, strict=True)), "utf-8")
            began = time.perf_counter()
            self._call({**places, "seed": str(seeds[0]), "seeds": str(listed)})
            seconds = time.perf_counter() - began
            for name, target, seed in zip(names, targets, seeds, strict=True):
                written = folders["output"] / name
                if not written.is_file():
                    raise ModelError(
                        f"{self.config.command[0]} ended well but wrote no {'image' if single else name}"
                    )
                content = written.read_bytes()
                _keep(content, target)
                self._calls.append(
                    {
                        "input": _sha256((folders["input"] / name).read_bytes()),
                        "mask": _sha256((folders["mask"] / name).read_bytes()),
                        "output": _sha256(content),
                        **({} if seed is None else {"seed": seed}),
                        "seconds": round(seconds / len(names), 4),
                    }
                )

    def _call(self, places: Mapping[str, str]) -> None:
        command = [_replaced(word, places) for word in self.config.command]
        try:
            done = subprocess.run(
                command,
                # Added to what is there: programs need PATH, HOME, and their own variables.
                env={**os.environ, **dict(self.config.environment)},
                # A program that asks a question fails at once instead of waiting out the time limit.
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.config.timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"{command[0]} took longer than {self.config.timeout_seconds:g} seconds"
            ) from None
        except OSError as error:
            raise ModelError(f"{command[0]} cannot be run: {error.strerror or error}") from error
        if done.returncode:
            # The last line of a traceback or of a usage message is the one that says what is wrong.
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            ending = f": {said[-1][:300]}" if said else ""
            raise ModelError(f"{command[0]} ended with exit code {done.returncode}{ending}")


def load_program(name: str) -> ModelEntry:
    """Return the entry of ``exec:FILE.toml`` (``exec:NAME`` reads ``NAME.toml``). The program is not run.

    Raises:
        InvalidModelError: there is no such file, or it does not describe a program.
    """
    given = name.removeprefix(PROGRAM_PREFIX)
    if not given:
        raise InvalidModelError(f"--models {name}: give the file that describes the program behind the colon")
    places = (Path(given), Path(f"{given}.toml"))
    named = next((place for place in places if find_user_file(place).is_file()), None)
    if named is None:
        raise InvalidModelError(
            f"--models {name}: there is no file {given} or {given}.toml that describes the program"
        )
    path = find_user_file(named)
    try:
        described = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidModelError(f"{path}: not readable as TOML: {error}") from error
    known = [*_DESCRIPTION, *(f.name for f in fields(ExternalProgramConfig) if f.name != "digests")]
    for key in described:
        if key not in known:
            raise InvalidModelError(f"{path}: unknown key {key!r}{did_you_mean(key, known)}")
    about = {key: _text(described.pop(key), key, path) for key in _DESCRIPTION if key in described}
    label = about.get("label", about.get("name", named.stem))
    settings = {**described, "command": _words(described.get("command"), path)}
    settings["environment"] = _variables(described.get("environment", {}), path)
    settings["digests"] = tuple(_file_digests(settings["command"]))
    try:
        # Built for its checks alone, so that the message can name the file.
        ExternalProgramConfig(**settings)
    except (TypeError, ValueError) as error:
        raise InvalidModelError(f"{path}: {error}") from error
    card = ModelCard(
        name=name,
        label=label,
        summary=about.get("summary", f"the program {settings['command'][0]}"),
        paper=about.get("paper", ""),
        groups=("external",),
        overrides=settings,
    )
    return ModelEntry(card=card, model=ExternalProgram)


def _words(command: Any, path: Path) -> tuple[str, ...]:
    """Split a command given as one string (as a shell would, but no shell is called) or as a list of words."""
    try:
        words = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:  # a quote that is not closed, a backslash at the end
        raise InvalidModelError(f"{path}: 'command' cannot be split into words: {error}") from error
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise InvalidModelError(f"{path}: 'command' must be a string or a list of strings")
    return tuple(_text(word, "command", path) for word in words)


def _variables(environment: Any, path: Path) -> tuple[tuple[str, str], ...]:
    """Read a table of variables, sorted, so that the order of lines in the file changes no key."""
    if not isinstance(environment, dict):
        raise InvalidModelError(
            f"{path}: 'environment' must be a table of names and values, not {environment!r}"
        )
    for name in environment:
        if not name or "=" in name or "\0" in name:
            raise InvalidModelError(f"{path}: {name!r} is no name of a variable of the environment")
    return tuple(sorted((k, _text(v, f"environment.{k}", path)) for k, v in environment.items()))


def _text(value: Any, key: str, path: Path) -> str:
    """Return a text, or a number or date of TOML as one, such as a program can be given."""
    if isinstance(value, (dict, list)):
        raise InvalidModelError(f"{path}: '{key}' must be a text, not {value!r}")
    text = str(value)
    if "\0" in text:
        raise InvalidModelError(f"{path}: '{key}' holds a null character, which no program can be given")
    return text


def _file_digests(command: Sequence[str]) -> list[tuple[str, str]]:
    """Digest the program and every file that its command names, so that a changed script is a changed model."""
    found = []
    for position, word in enumerate(command):
        path = Path(shutil.which(word) or word) if position == 0 else Path(word)
        if path.is_file():
            found.append((word, _sha256(path.read_bytes())))
    return found


def _keep(content: bytes, target: Path) -> None:
    """Write a completion so that neither a kill nor a power cut leaves half of it behind, or its name without it."""
    missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    # The process number, because two processes may complete the same image at the same time.
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    # The entry of each new folder is kept in the one above it.
    for folder in (target.parent, *(folder.parent for folder in missing)):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replaced(word: str, places: Mapping[str, str]) -> str:
    # Not str.format: other braces in a command are the program's own.
    for name, value in places.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _read(path: Path, size: Sequence[int]) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=_OUTPUT_FORMATS) as opened:
            image = np.asarray(opened.convert("RGB"))
    except (OSError, ValueError) as error:
        # Out of the cache, or the next run would meet the same bad file without calling the program.
        path.unlink(missing_ok=True)
        raise ModelError(f"the program wrote something that is no image: {error}") from error
    if image.shape[:2] != tuple(size):
        path.unlink(missing_ok=True)
        found, wanted = (f"{w} x {h}" for h, w in (image.shape[:2], size))
        raise ModelError(f"the program wrote an image of {found} pixels instead of {wanted}")
    return image


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
