"""An experiment, or one cell of it, computed again from its manifest, and compared with what the manifest records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

import masks.bank
import masks.registry
from bench import provenance
from bench.config import Request, RunConfig
from bench.errors import BenchError, UsageError
from bench.evaluation.metrics import list_metrics
from bench.protocols import PROTOCOLS
from bench.runner.callbacks import RunCallbacks
from bench.runner.cell_entries import evaluated_where, machines_of
from bench.runner.keys import describe_where
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.run import execute_plan
from bench.runner.run_folder import RunFolder, read_manifest
from models.discovery import PROGRAM_PREFIX, find_models
from models.pretrained import restore_fields
from models.registry import did_you_mean
from reports.results.experiment import cell_title
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.schema import EXTERNAL, SchemaError, cell_numbers, read_rows

#: Threads of a computation that are believed: more than any machine has processors.
_MOST_THREADS = 4096
#: What makes a cell the same cell in another experiment.
_IDENTITY = ("model", "mask", "train_mask", "seed")


@dataclass(frozen=True)
class MetricComparison:
    """One number. ``found`` is ``None`` where it was not measured; ``reason`` says why, or how it differs."""

    cell: str
    metric: str
    recorded: float
    found: float | None
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Reproduction:
    """All numbers, and where the new ones lie. ``reproduced``: none differs, and some were compared."""

    folder: Path
    numbers: list[MetricComparison]

    @property
    def reproduced(self) -> bool:
        """Whether what could be measured is as recorded."""
        verdicts = {number.verdict for number in self.numbers}
        return bool(verdicts & {"equal", "within"}) and "differs" not in verdicts


def reproduce_experiment(
    record: RecordedRun,
    name: str,
    callbacks: RunCallbacks,
    *,
    data: str | None = None,
    models_from: Sequence[str] = (),
    allow_code: bool = False,
    tolerance: float | None = None,
    root: Path = Path(),
) -> Reproduction:
    """Check fingerprints, compute the cells again under a fresh name, compare.

    Args:
        record: from :func:`bench.runner.reproduce.read_record`.
        name: of the new experiment.
        callbacks: show progress and messages.
        data: path of the images on this machine.
        models_from: the user's own model files.
        allow_code: run the model files and programs that the manifest names.
        tolerance: share of the recorded mean by which a new one may differ; ``None``: equal to the last bit, image by
            image, which other hardware or library versions are refused for.
        root: folder that holds ``runs/``.

    Raises:
        UsageError: data, masks, versions or hardware are not the recorded ones; nothing has been computed.
    """
    if record.skipped:
        callbacks.note(f"Left out, made by other programs: {', '.join(record.skipped)}.")
    store = RunFolder(name, root)
    # By the file and not by the name: the manifest may have been given by another path.
    if store.manifest_path.exists() and store.manifest_path.samefile(record.path):
        raise UsageError(f"--name {name}: is the experiment itself; give a fresh name")
    try:
        asked = recorded_requests(record, name, data=data, models_from=models_from, allow_code=allow_code)
        # Before the runs are prepared, since their own record of where they compute holds the number of
        # threads.
        threads = evaluated_where(record.cells[0]).get("threads")
        if isinstance(threads, int) and threads > 0:
            if threads > _MOST_THREADS:  # OpenMP ends the process where it cannot start them
                raise BenchError(f"{record.path}: damaged ({threads:,} threads); get a whole copy of it")
            torch.set_num_threads(threads)  # sums depend on it
        ready = [prepare_run(request, callbacks, root) for request in asked]
        _check(record, ready, callbacks, exact=tolerance is None)
    # A manifest may come from anybody: whatever it lacks must end in one line and not in a traceback.
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BenchError(
            f"{record.path}: damaged ({type(error).__name__}: {error}); get a whole copy of it"
        ) from error
    # Nothing is computed before all requests have been prepared and checked.
    for prepared in ready:
        execute_plan(prepared)
    made = store.read_manifest()
    assert made is not None
    # By what makes a cell the same and not by key, which holds the code and may differ for good reason.
    again = {tuple(cell[k] for k in _IDENTITY): cell for cell in made["cells"]}
    comparison = _Comparison(store, ready[0].unavailable, tolerance)
    compared = [
        number
        for cell, recorded in zip(record.cells, record.numbers, strict=True)
        for number in comparison.compare(cell, recorded, again.get(tuple(cell[k] for k in _IDENTITY)))
    ]
    return Reproduction(store.folder, compared)


def _check(
    record: RecordedRun, ready: Sequence[PreparedRun], callbacks: RunCallbacks, *, exact: bool
) -> None:
    """Refuse what cannot give the recorded numbers, with every reason at once.

    Raises:
        UsageError: see :func:`reproduce_experiment`.
    """
    manifest, context, wrong = record.manifest, ready[0].context, []
    data = context.data
    if data.fingerprint != manifest["data"]["fingerprint"]:
        wrong.append(
            f"the data are others ({manifest['data']['title']}, fingerprint "
            f"{manifest['data']['fingerprint'][:12]}; here {data.title}, {data.fingerprint[:12]}): give --data PATH"
        )
    # If the images are others, so are all masks, and saying so of each would bury the reason.
    for mask in dict.fromkeys(m for prepared in ready for m in prepared.context.request.masks if not wrong):
        drawn = masks.bank.masks_digest(masks.registry.draw_masks(mask, ready[0].test_images.ids, data.size))
        if drawn != manifest["masks"][mask]["digest"]:
            wrong.append(
                f"mask {mask} is drawn otherwise (here version {masks.registry.mask_info(mask).version})"
            )
    # Each machine that had a part, in training or evaluation; differences that repeat are said once.
    places = (place for cell in record.cells for place in machines_of(cell))
    elsewhere = "; ".join(dict.fromkeys(d for place in places for d in describe_where(place, context.where)))
    if elsewhere and exact:
        wrong.append(
            f"it was computed elsewhere ({elsewhere}), and numbers are equal to the last bit only on the same: "
            "install these versions, or give --tolerance 0.02 to compare means within 2 %"
        )
    elif elsewhere:
        callbacks.note(f"Computed elsewhere: {elsewhere}.")
    if wrong:
        raise UsageError(f"{record.path}: {'; '.join(wrong)}")
    version, commit = manifest.get("software", {}).get("inpaint-bench"), manifest.get("commit")
    now = provenance.git_commit()
    # A note and no refusal: most commits change no number, and the comparison will tell.
    if (version, commit) != (provenance.software_versions()["inpaint-bench"], now):
        callbacks.note(f"Recorded with inpaint-bench {version} at commit {commit}, here {now}.")


@dataclass(frozen=True)
class _Comparison:
    """What recorded numbers are compared with: the new experiment, metrics it could not measure, the tolerance."""

    store: RunFolder
    unavailable: dict[str, str]
    tolerance: float | None

    def compare(
        self, cell: dict[str, Any], recorded: dict[str, dict[str, Any]], again: dict[str, Any] | None
    ) -> list[MetricComparison]:
        """Set every recorded number of a cell beside the new one."""
        title = cell_title(cell)
        found: dict[str, dict[str, Any]] = {}
        failure = "the cell was not computed"
        if again is not None and again["status"] == "done":
            found = recorded_numbers(again, self.store.folder)
        elif again is not None:
            failure = str(again["reason"])
        numbers = []
        for metric, was in recorded.items():
            now = found.get(metric)
            if now is None:
                verdict = "not measured" if metric in self.unavailable else "differs"
                reason = self.unavailable.get(metric, failure)
                numbers.append(MetricComparison(title, metric, was["mean"], None, verdict, reason))
                continue
            verdict, reason = _verdict(was, now, self.tolerance)
            numbers.append(MetricComparison(title, metric, was["mean"], now["mean"], verdict, reason))
        return numbers


def _verdict(was: dict[str, Any], now: dict[str, Any], tolerance: float | None) -> tuple[str, str]:
    # Both: two tables of other values may happen to have one mean.
    if was["mean"] == now["mean"] and was.get("digest") == now.get("digest"):
        return "equal", ""
    if was["mean"] == now["mean"]:
        reason = "the mean is equal, single images differ"
    else:
        # Guarded against a recorded mean of zero.
        share = abs(now["mean"] - was["mean"]) / max(abs(was["mean"]), 1e-300)
        reason = f"by {now['mean'] - was['mean']:+.3g} ({share:.2%})"
    if tolerance is not None and abs(now["mean"] - was["mean"]) <= tolerance * abs(was["mean"]):
        return "within", reason
    return "differs", reason


def reproduction_as_json(done: Reproduction) -> str:
    """Return the outcome as JSON, with a checksum of its content."""
    outcome = {
        "reproduced": done.reproduced,
        "folder": str(done.folder),
        "numbers": [asdict(number) for number in done.numbers],
    }
    return json.dumps({**outcome, SEAL: manifest_checksum(outcome)}, indent=1)


# What a manifest records and what ``bench run`` would be asked to compute it again.


@dataclass(frozen=True)
class RecordedRun:
    """What is to be reproduced: a manifest, the cells chosen of it, and their numbers (metric -> mean and digest).

    ``skipped`` are labels of images of other programs, which no run can make.
    """

    path: Path
    manifest: dict[str, Any]
    cells: list[dict[str, Any]]
    numbers: list[dict[str, dict[str, Any]]]
    skipped: list[str]


def read_record(path: Path, cell: str | None = None) -> RecordedRun:
    """Read the finished cells of a manifest, or the one that is named.

    Numbers are taken from the manifest itself; one of an older version needs its results beside it.

    Raises:
        UsageError: no cell of that name (with suggestions), or none that is finished.
        BenchError: not a manifest of this version, damaged, or without numbers.
    """
    manifest = read_manifest(path)
    try:
        done = [c for c in manifest["cells"] if c["status"] == "done"]
        if cell is not None:
            names = {c["cell"] for c in done}
            # With or without the digest at its end, which nobody types.
            done = [c for c in done if c["cell"] == cell or c["cell"].rpartition("-")[0] == cell]
            if not done:
                raise UsageError(f"--cell {cell}: no finished cell of {path}{did_you_mean(cell, names)}")
            if len(done) > 1:
                raise UsageError(f"--cell {cell}: is one of {', '.join(c['cell'] for c in done)}; name one")
        skipped = list(dict.fromkeys(c["label"] for c in done if c["train_mask"] == EXTERNAL))
        done = [c for c in done if c["train_mask"] != EXTERNAL]
        if not done:
            of_others = f" (but images of other programs: {', '.join(skipped)})" if skipped else ""
            raise UsageError(f"{path}: holds no finished cell{of_others}, so there is nothing to reproduce")
        return RecordedRun(path, manifest, done, [recorded_numbers(c, path.parent) for c in done], skipped)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(
            f"{path}: damaged ({type(error).__name__}: {error}); get a whole copy of it"
        ) from error


def recorded_numbers(cell: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Return metric -> mean and digest of a finished cell of the experiment in ``folder``; only those with a mean."""
    kept = cell["evaluation"].get("numbers")
    if kept is None:
        rows = folder / cell["folder"] / "results.parquet"
        try:
            kept = cell_numbers(read_rows(rows))
        except SchemaError as error:
            raise BenchError(
                f"the manifest is of a version that keeps its numbers beside it: {error}"
            ) from error
    sets = {name: {"mean": score["value"]} for name, score in cell["evaluation"].get("sets", {}).items()}
    found = {**kept, **sets}
    # Read from a file that may have been edited: a text here would fail much later, in the arithmetic.
    if not all(isinstance(number["mean"], int | float | None) for number in found.values()):
        raise TypeError("a mean is not a number")
    # Metrics that were not available have a mean of None, and nothing to compare.
    return {name: number for name, number in found.items() if number["mean"] is not None}


def recorded_code(record: RecordedRun) -> list[str]:
    """List the model files and programs that the record's cells need besides the installed models."""
    models = {cell["model"] for cell in record.cells}
    programs = sorted(model for model in models if model.startswith(PROGRAM_PREFIX))
    # Programs always count as code; model files only where a model is not one of those installed here.
    if models <= {*programs, *find_models()}:
        return programs
    files: set[str] = set()
    for chosen in record.manifest.get("options", []):
        given = chosen.get("models-from", [])
        # Of an edited manifest: a text would be a list of letters.
        given = given if isinstance(given, list) else [given]
        files |= {str(path) or "''" for path in given}
    return [*sorted(files), *programs]


def recorded_requests(
    record: RecordedRun,
    name: str,
    *,
    data: str | None = None,
    models_from: Sequence[str] = (),
    allow_code: bool = False,
) -> list[Request]:
    """Return the requests that compute a record's cells again, each for all cells that one run can compute.

    Args:
        record: what is to be reproduced.
        name: of the new experiment.
        data: path of the images on this machine; as recorded if not given.
        models_from: the user's own model files.
        allow_code: run the model files and programs that the manifest names.

    Raises:
        UsageError: the manifest names code, which is neither given nor allowed; a model is not known here.
    """
    manifest, settings = record.manifest, record.manifest["settings"]
    # A manifest of another version may record settings that this one does not have.
    known = {field.name for field in fields(RunConfig)}
    common: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in known
    }
    if common.get("precision") == "auto":
        # A merge of machines that computed in several; the first cell's, as its number of threads.
        common["precision"] = evaluated_where(record.cells[0]).get("precision", "auto")
    common["metrics"] = tuple(sorted({m for found in record.numbers for m in found} & set(list_metrics())))
    code = recorded_code(record)
    files = [path for path in code if not path.startswith(PROGRAM_PREFIX)]
    # One's own copy of a model file stands in for those that are named, but not for a program.
    unasked = [path for path in code if path not in files or not models_from]
    # As of a run of the Python API, which has no command line to record.
    strange = sorted({cell["model"] for cell in record.cells} - {*code, *find_models()})
    if strange and not models_from and not files:
        raise UsageError(
            f"not among the models here, and the manifest names no file of it: {', '.join(strange)}; give "
            "--models-from FILE"
        )
    if unasked and not allow_code:
        # No option gives one's own copy of a program.
        own = "--models-from FILE for your own copy of a model file, or " if files and not models_from else ""
        raise UsageError(
            f"the manifest names code to run ({', '.join(unasked)}): read it, then give {own}--allow-code"
        )
    return [
        Request(
            models=tuple(configs),
            masks=mask_names,
            data=data or manifest["data"]["source"],
            settings=RunConfig(
                **{**common, "train_mask": train_mask, "seeds": seeds, "samples_per_image": samples}
            ),
            model_options=configs,
            models_from=tuple(models_from) or tuple(files),
            name=name,
            device=evaluated_where(record.cells[0])["device"],
            pictures=bool(settings.get("pictures", True)),
            allow_unreadable=True,  # the fingerprint is what counts
            command=("bench", "reproduce", str(record.path)),
            protocol=_known_protocol(manifest),
        )
        for (train_mask, mask_names, seeds, samples, _), configs in _together(record.cells).items()
    ]


def _known_protocol(manifest: dict[str, Any]) -> str | None:
    """Return the protocol that the manifest names, where this version has it."""
    name = (manifest.get("protocol") or {}).get("name")
    return name if name in PROTOCOLS else None


#: Training mask, masks, seeds, samples of an image; and a number that keeps apart two configs of one model.
_Group = tuple[str, tuple[str, ...], tuple[int, ...], int, int]


def _together(cells: Sequence[dict[str, Any]]) -> dict[_Group, dict[str, dict[str, Any]]]:
    """Group cells by what one request can ask for: group -> model -> its config."""
    wanted: dict[tuple[str, str, str, int], set[tuple[str, int]]] = {}
    # Untrained fills rest on no training mask, so they fit beside any.
    for cell in cells:
        trained_on = cell["train_mask"] if cell["trained"] else ""
        samples = (cell["evaluation"].get("samples") or {}).get("count", 1)
        # As text, since a config is a mapping and cannot be part of a key.
        key = (cell["model"], json.dumps(cell["config"]), trained_on, samples)
        wanted.setdefault(key, set()).add((cell["mask"], cell["seed"]))
    groups: dict[_Group, dict[str, dict[str, Any]]] = {}
    # Trained models first: fills then join their groups, and need no request of their own.
    for (model, config, trained_on, samples), pairs in sorted(
        wanted.items(), key=lambda item: not item[0][2]
    ):
        by_masks: dict[tuple[str, ...], list[int]] = {}
        for seed in sorted({seed for _, seed in pairs}):
            # Seeds with the same masks go together; a request would otherwise compute pairs that were never
            # asked for.
            by_masks.setdefault(tuple(sorted(m for m, s in pairs if s == seed)), []).append(seed)
        for names, seeds in by_masks.items():
            fields_of = restore_fields(json.loads(config))
            _place(groups, model, fields_of, (trained_on, names, tuple(seeds), samples))
    return groups


def _place(
    groups: dict[_Group, dict[str, dict[str, Any]]],
    model: str,
    config: dict[str, Any],
    where: tuple[str, tuple[str, ...], tuple[int, ...], int],
) -> None:
    """Put a model into the group where it belongs; an untrained fill (trained on nothing) into any with its masks."""
    trained_on, names, seeds, samples = where
    if not trained_on:
        for group, configs in groups.items():
            if group[1] == names and model not in configs:
                configs[model] = config
                return
    number = 0
    while model in groups.get((trained_on or "auto", names, seeds, samples, number), {}):
        number += 1
    groups.setdefault((trained_on or "auto", names, seeds, samples, number), {})[model] = config
