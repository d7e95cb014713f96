"""The command line: one file a command. Files here parse and print; the library computes.

Commands are imported when they are called, so that ``bench --help`` stays quick and imports no torch.
"""

from __future__ import annotations

import importlib
import keyword
import os
import sys
import time

import click

from bench.cli.process import TerminatedError, command_process
from bench.cli.wrapping import echo_line
from bench.errors import BenchError
from bench.version import __version__
from masks.file_names import one_line

#: Heading -> command -> the line that ``bench --help`` shows. Each command is ``<name>_command`` in
#: ``bench/cli/commands/<name>.py`` (dashes as underscores).
SECTIONS: dict[str, dict[str, str]] = {
    "Experiments": {
        "run": "Train, evaluate and report: the main job.",
        "plan": "Say how many seeds and images a difference takes.",
        "init": "Write a commented config file for 'bench run'.",
        "status": "Show the state of experiments.",
        "reproduce": "Run an experiment again from its manifest, and compare.",
        "work": "Compute one unit of a run, for schedulers of any kind.",
        "ablate": "Run what the claims of the paper need.",
        "clean": "Free disk space of checkpoints and packs, asking first.",
    },
    "Results": {
        "report": "Render an experiment's report again.",
        "blind": "Join what readers chose on blind pages.",
        "claims": "Say which claims of the paper hold.",
        "compare": "Compare two experiments, paired by image.",
        "score": "Score images made by any other program.",
        "export": "Export an experiment's tables.",
        "import": "Make an experiment from kept files.",
        "merge": "Join experiments: seeds side by side.",
        "leaderboard": "One page of many experiments.",
        "export-weights": "Export trained generators as files to share.",
    },
    "Your own images": {
        "inpaint": "Complete images of your own.",
        "demo": "Draw a hole in the browser, and compare every model.",
    },
    "Models": {
        "list": "List models, masks, presets and metrics.",
        "show": "Show a model: layers, parameters, phases, ambiguities.",
        "new-model": "Write a working example of a model of your own.",
        "check-model": "Check a model against the contract.",
        "perf": "Measure speed, memory and arithmetic rate.",
    },
    "Data and masks": {
        "data": "Prepare and inspect image data.",
        "masks": "Preview, export and verify masks.",
    },
    "This machine": {
        "doctor": "Check whether this machine is ready.",
        "weights": "Show and fetch the weights that metrics need.",
        "completion": "Print the script for the TAB key.",
    },
}
#: Command -> its line, in the order shown.
COMMANDS = {name: line for section in SECTIONS.values() for name, line in section.items()}


class LazyGroup(click.Group):
    """A click group whose commands are imported only when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all command names, in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        # A module cannot bear the name of a Python keyword.
        module = importlib.import_module(f"bench.cli.commands.{name}{'_' * keyword.iskeyword(name)}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, without importing any."""
        width = max(map(len, COMMANDS))
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{width}}", line) for name, line in commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command as click does, with a suggestion for a mistyped one, and aliases of options replaced."""
        from bench.cli.options import with_own_names
        from models.registry import did_you_mean

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, rest if command is None else with_own_names(command, rest)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="bench")
@click.option("--debug", is_flag=True, help="Show tracebacks of expected errors too.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Benchmark image inpainting reproducibly: train, evaluate, compare, report.

    \b
    All models, on the embedded procedural faces (about 5 minutes on two cores):
        bench run --models all --mask center
    On CelebA:
        bench run --models all --mask center --data PATH/TO/celeba
    """
    # Of a run that ends it is said how long it took, start-up included: importing torch alone takes seconds.
    ctx.obj = {"debug": debug, "began": time.monotonic()}
    if (encoding := sys.getfilesystemencoding().lower()) != "utf-8":
        echo_line(
            f"warning: this Python reads names of files as {encoding}: those that are not ASCII give images other ids "
            "than elsewhere; set PYTHONUTF8=1",
            err=True,
        )
    if os.environ.get("NO_COLOR"):  # click knows terminals, not this convention (https://no-color.org)
        ctx.color = False


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: expected errors are one line on standard error and an exit code."""
    # Read here too, since click has no context any more where errors are printed.
    debug = "--debug" in (sys.argv[1:] if args is None else args)
    with command_process():
        code = _exit_code(args, debug=debug)
    # One of several processes leaves out the interpreter's teardown.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from bench.training.distributed import exit_distributed

        exit_distributed(code)
    sys.exit(code)


def _exit_code(args: list[str] | None, *, debug: bool) -> int:
    """Run the command and say how it ended, as ``docs/architecture.md`` lists exit codes."""
    code: object
    try:
        # Not standalone: click would exit by itself, and print its errors in its own way.
        code = cli.main(args=args, prog_name="bench", standalone_mode=False)
    except SystemExit as leaving:  # a command that has its own exit code
        code = leaving.code
    except click.ClickException as error:
        # Click's own line ends are in its lists of choices, and in the help of a command without its words.
        if not isinstance(error, click.MissingParameter) and type(error).__name__ != "NoArgsIsHelpError":
            vars(error).update(message=one_line(error.message))
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, TerminatedError) as stop:
        echo_line("interrupted; finished work is kept: give the same command again to continue", err=True)
        # Code 130 is what a shell gives for Ctrl-C.
        return stop.exit_code if isinstance(stop, TerminatedError) else 130
    except BenchError as error:
        if debug:
            raise
        echo_line(f"error: {error!s}", err=True)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        if _is_foreseen(error):
            echo_line(f"error: {error!s}", err=True)
            return 2
        echo_line(f"error: {_unexpected(error)}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _is_foreseen(error: Exception) -> bool:
    """Return whether ``masks`` or ``reports`` foresee it: they import no ``bench``, and have errors of their own."""
    from masks.mask_images import MaskFileError
    from masks.registry import UnknownMaskError
    from reports.results.experiment import ExperimentError
    from reports.results.manifest import ManifestError
    from reports.results.schema import SchemaError

    return isinstance(error, MaskFileError | UnknownMaskError | ExperimentError | ManifestError | SchemaError)


def _unexpected(error: Exception) -> str:
    """Describe in one line an error that no command expects; finished work is kept."""
    # Outside of a training step, which halves its micro-batch instead.
    if isinstance(error, MemoryError):
        return "out of memory; give a smaller --batch or --micro-batch, or less at once"
    # The message of strerror alone, without the number in brackets that str() puts before it.
    if isinstance(error, OSError) and error.strerror:
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}"
    line = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {line} (unexpected: 'bench --debug ...' shows where; please report it)"
