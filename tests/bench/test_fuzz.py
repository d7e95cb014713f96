"""A few inputs for every reader; ``nox -s fuzz`` tries them for minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench import fuzzing

NAMES = (
    "TOML configs",
    "manifests",
    "results parquet",
    "cell.json",
    "training.json",
    "train.jsonl",
    "pictures of a cell",
    "pictures of a mask",
    "records beside a manifest",
    "attributes",
    "statistics of a data set",
    "manifests of masks",
    "checkpoints",
    "checkpoints under a name that fits",
    "safetensors",
    "mask files",
    "image files",
    "file names",
    "zip members",
    "lists",
    "lists beside images",
)


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, fuzzing.Target]]:
    with fuzzing.targets() as known:
        assert tuple(known) == NAMES
        yield known


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_input_is_refused_in_our_words_or_read_as_it_was(
    targets: dict[str, fuzzing.Target], name: str
) -> None:
    assert fuzzing.attempt(targets[name], 25) >= 25
