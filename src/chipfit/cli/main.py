"""The command line: parses, calls, prints. Every command is a few lines around what the package does."""

from __future__ import annotations

import sys

import typer
from typer.core import TyperGroup

from chipfit.cli import advising, designing, inspect, landscape, measuring, ruling, runs
from chipfit.errors import ChipfitError

app = typer.Typer(
    name="chipfit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Makes neural networks fit special-purpose chips.",
    cls=TyperGroup,
)
for command in (
    inspect.targets,
    inspect.estimate,
    advising.advise,
    inspect.space,
    landscape.landscape,
    designing.design,
    runs.search,
    runs.report,
    runs.export,
    ruling.patterns,
    measuring.profile,
    measuring.fit,
    measuring.calibrate,
):
    app.command()(command)


def main() -> None:
    """Runs a command. Exit status: 0 done, 1 a limit cannot be met, 2 unusable input, 130 interrupted."""
    try:
        app()
    except ChipfitError as error:
        print(f"chipfit: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("chipfit: interrupted; nothing is lost, the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
