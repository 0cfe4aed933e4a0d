"""The Typer app: commands that import what they need when they run, errors as messages and exit codes."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vlsmctl.commands import (
    bench,
    doctor,
    models,
    predict,
    prepare,
    presets,
    quickstart,
    report,
    reproduce,
    train,
    weights,
)  # fmt: skip
from vlsmctl.commands import eval as evaluate
from vlsmctl.console import configure, console, is_verbose
from vlsmctl.errors import INTERRUPTED, UsageError, VlsmctlError
from vlsmctl.files import NO_ROOM
from vlsmctl.network import go_offline

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Fine-tune small adapters into frozen vision-language segmentation models, and use them on "
    "medical images. For research; not a medical device.",
)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its errors turned into a message and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except VlsmctlError as error:
            _say(f"error: {error}")
            if error.hint:
                _say(f"  try: {error.hint}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
            raise typer.Exit(1) from None
        except Exception as error:
            if is_verbose():
                _say(traceback.format_exc())
            if isinstance(error, OSError) and (error.filename is not None or error.errno in NO_ROOM):
                where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
                _say(f"error: {where}{error.strerror or error}")
                raise typer.Exit(UsageError.exit_code) from None
            _say(f"internal error: {type(error).__name__}: {error}")
            _say("  this is a bug in vlsmctl; `vlsmctl --verbose ...` shows the details to report")
            raise typer.Exit(1) from None

    return run


def _say(text: str) -> None:
    console(always=True).print(text, markup=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"vlsmctl {version('vlsmctl')}")
        raise typer.Exit


@app.callback()
def options(
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="More on what is done, and on errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    configure(quiet=quiet, verbose=verbose)
    # must be set before torch is imported: some operations are not there yet on Apple GPUs
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    # likewise: threads of torch that wait for one another by spinning keep the processor from those that
    # read files and from other programs, which makes it many times slower on a machine that is not idle
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # of `weights fetch`
    if offline:
        go_offline()


app.command("quickstart")(guarded(quickstart.quickstart))
app.command("prepare")(guarded(prepare.prepare))
app.command("train")(guarded(train.train))
app.command("eval")(guarded(evaluate.evaluate))
app.command("predict")(guarded(predict.predict))
app.command("reproduce")(guarded(reproduce.reproduce))
app.command("report")(guarded(report.report))
app.command("models")(guarded(models.models))
app.command("bench")(guarded(bench.bench))
app.command("doctor")(guarded(doctor.doctor))

presets_app = typer.Typer(invoke_without_command=True, help="List and explain the presets.")
presets_app.callback()(guarded(presets.list_presets))
presets_app.command("show")(guarded(presets.show))
app.add_typer(presets_app, name="presets")

weights_app = typer.Typer(no_args_is_help=True, help="Fetch base models, or build the embedded one again.")
weights_app.command("fetch")(guarded(weights.fetch))
weights_app.command("build")(guarded(weights.build))
app.add_typer(weights_app, name="weights")


def main() -> None:
    app(prog_name="vlsmctl")
