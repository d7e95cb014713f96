"""Errors that a user can act on.

Every expected failure is raised as a :class:`BenchError` whose message says what is wrong, where, and what
to do. The command line prints the message without a traceback (``--debug`` shows it).
"""


class BenchError(Exception):
    """A failure a user can act on. ``exit_code`` follows the table in ``docs/architecture.md``."""

    exit_code = 1


class UsageError(BenchError):
    """The command was asked for something that cannot be: an unknown name, an impossible size. Exit code 2."""

    exit_code = 2


class DataError(BenchError):
    """The images cannot be used: no folder, nothing readable, too many unreadable files. Exit code 2."""

    exit_code = 2


class DiskError(BenchError):
    """Nothing can be written any more: the disk is full, or the folder is read-only. Ends the run at once."""
