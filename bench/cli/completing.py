"""What the TAB key offers as values: names of models, masks and experiments. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem


def experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Experiments in ``runs/``."""
    from bench.runner.run_folder import RUNS

    return _items((p.parent.name for p in sorted(RUNS.glob("*/manifest.json"))), incomplete)


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models and their groups; after a comma, the next of a list."""
    from models.discovery import find

    listings = find([])
    groups = {group for listing in listings.values() for group in listing.card.groups}
    return _items([*listings, "all", "everything", *sorted(groups)], incomplete)


def masks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Mask names and groups; after a comma, the next of a list."""
    from masks.registry import names

    return _items([*names(), "paper", "all"], incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in dict.fromkeys(names) if name.startswith(last)]
