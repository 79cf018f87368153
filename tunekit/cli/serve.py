"""``tunekit serve``: a trained model behind OpenAI's API."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from tunekit.cli.command import Number, option, swift_flags
from tunekit.console import say
from tunekit.errors import TunekitError, did_you_mean

WHAT, WHERE, LOOK = "What to serve", "Where", "Look before you serve"

HELP = (
    "Serve a trained model behind OpenAI's API, to this machine.\n\n"
    "ms-swift serves it with the prompt of its training, on a CPU too; vLLM and SGLang are for load, and have to be "
    "installed. A key comes from the environment: TUNEKIT_SERVE_KEY. Prompts are not logged.\n\n"
    "Flags of ms-swift may be added as they are with --backend swift: --max_new_tokens 512, --infer_backend vllm."
)

PORTS = range(1, 65536)


def serve_command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, a checkpoint, or a folder with a model.")],
    checkpoint: Annotated[str, option(WHAT, "best, last or a number. Default: the best that is known, or last.")] = "",
    merged: Annotated[bool, option(WHAT, "The model that tunekit merge made of it.", "--merged")] = False,
    name: Annotated[str, option(WHAT, "What requests call the model. Default: the run's name.")] = "",
    length: Annotated[
        Number, option(WHAT, "Tokens of a conversation at the most. Default: as trained, 2048 at the least.")
    ] = None,
    backend: Annotated[str, option(WHERE, "swift, vllm or sglang. Default: swift.")] = "swift",
    host: Annotated[str, option(WHERE, "Default: 127.0.0.1, this machine alone.")] = "127.0.0.1",
    port: Annotated[int, option(WHERE, "Default: 8000.")] = 8000,
    print_commands: Annotated[bool, option(LOOK, "Print the command of each backend.", "--print")] = False,
) -> None:
    """Serve. The help text is in `HELP`."""
    from tunekit.runs.trained.backends import BACKENDS, KEY, Service
    from tunekit.runs.trained.export.papers import LEAST_CONTEXT
    from tunekit.runs.trained.job import prepare_job
    from tunekit.runs.trained.serve import check_service, serve_until_stopped

    if backend not in BACKENDS:
        raise TunekitError(f"--backend takes {', '.join(BACKENDS)}, not {backend}", did_you_mean(backend, BACKENDS))
    if port not in PORTS:
        raise TunekitError(f"--port takes a number from 1 to 65535, not {port}")
    flags = swift_flags(ctx)
    if flags and backend != "swift":
        raise TunekitError(f"--{next(iter(flags))} is a flag of ms-swift", "it counts with --backend swift alone")
    job = prepare_job("serve", run, checkpoint, flags, merged=merged)
    trained = job.target.plan.get("max_length") if job.target.plan else None
    most = length or (max(LEAST_CONTEXT, trained) if isinstance(trained, int) else None)
    called = name or job.target.home.name
    service = Service(job, called, host, port, key=bool(os.environ.get(KEY)), length=most)
    if print_commands:
        for row in BACKENDS.values():
            say(f"# {row.name}{'' if row.here else f' (not installed here: {row.get})'}")
            print(row.command(service).shell())
        return
    check_service(BACKENDS[backend], service)
    try:
        serve_until_stopped(BACKENDS[backend], service)
    except KeyboardInterrupt:
        say("stopped")
