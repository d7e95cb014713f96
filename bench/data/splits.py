"""Splits: pure functions of image names, the same on every machine and for any subset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from bench.errors import DataError

SPLITS = ("auto", "official", "paper", "identity", "digest")
TRAIN, VALIDATION, TEST = 0, 1, 2


def assign_split(
    ids: Sequence[str],
    split: str,
    *,
    partition: Mapping[str, int],
    identities: Mapping[str, int],
    seed: int = 0,
) -> tuple[str, list[int]]:
    """Return the split's name (``auto`` resolved) and 0 train, 1 validation or 2 test for each id.

    ``paper`` is 90/10 by a digest of the file name, with 5 % of the training part held out for validation (the paper
    splits 180,000 / 20,000 at random and says no seed); ``digest`` is 90/5/5; ``identity`` is 90/5/5 by a digest of who
    is shown.

    Raises:
        DataError: an unknown split, or one whose list is missing.

    >>> ids = [f"{i:06d}.jpg" for i in range(1, 8)]
    >>> assign_split(ids, "paper", partition={}, identities={})
    ('paper', [2, 2, 0, 0, 0, 0, 0])
    """
    # Here as well as in open_data: the function is called by itself too, and must not fall through to
    # "digest".
    if split not in SPLITS:
        raise DataError(f"--split {split}: there are {', '.join(SPLITS)}")
    if split == "auto":
        split = "official" if partition else "digest"
    if split == "official":
        if not partition:
            raise DataError(
                "--split official needs a published split (CelebA: list_eval_partition.txt beside the pictures)"
            )
        # A guess for the missing ones would mix the splits that others report numbers on.
        missing = [i for i in ids if i not in partition]
        if missing:
            raise DataError(
                f"the list of the published split says nothing of {missing[0]} ({len(missing)} in all); "
                "give the whole list, or --split digest"
            )
        return split, [partition[i] for i in ids]
    if split == "identity":
        if not identities:
            raise DataError(
                "--split identity needs a list of people beside the pictures (CelebA: identity_CelebA.txt)"
            )
        # By person and not by image, so that nobody is on two sides; an unnamed image is a person of its own.
        return split, [_by_share(f"identity {identities.get(i, i)}", seed, (0.90, 0.95)) for i in ids]
    if split == "paper":
        # 5 % of the paper's 90 % are held out: 0.9 - 0.045.
        return split, [_by_share(i, seed, (0.855, 0.90)) for i in ids]
    return split, [_by_share(i, seed, (0.90, 0.95)) for i in ids]


def _by_share(name: str, seed: int, limits: tuple[float, float]) -> int:
    # A digest per name: adding or removing images moves none of the others.
    digest = hashlib.sha256(f"split\x1f{seed}\x1f{name}".encode("utf-8", "surrogateescape")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return TRAIN if share < limits[0] else VALIDATION if share < limits[1] else TEST
