"""Where ``tunekit`` starts: secrets leave the arguments first, errors become one line and a hint."""

from __future__ import annotations

import gc
import os
import signal
import sys

from tunekit import leave
from tunekit.console import coloured, columns, prepare_streams, say, silence
from tunekit.errors import Exit, TunekitError

MOVED = "TUNEKIT_MOVED"
"""Names for the second start the secrets that the first one took out of its arguments."""


def main() -> None:
    """Run the command line and exit with its code."""
    code: int = Exit.DONE
    gc.set_threshold(50_000)  # a start makes some ten thousand objects that all stay: to look for garbage costs a tenth
    try:
        prepare_streams()
        _hide_secrets()
        from tunekit.cli.call import run_words

        if signal.getsignal(signal.SIGINT) is leave:  # from here on a Ctrl-C is raised, so that commands can tidy up
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run_words(sys.argv[1:])
        sys.stdout.flush()
    except TunekitError as error:
        if _debugging():
            raise
        report(error)
        code = error.code
    except KeyboardInterrupt:
        say("interrupted")
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        silence(sys.stdout.fileno())  # the reader went away (`| head`), and Python flushes once more at exit
    except Exception as error:
        known = _exit_of_cli(error)
        if known is None and _debugging():
            raise
        code = _report_other(error) if known is None else known
    sys.exit(_flushed(code))


def _report_other(error: Exception) -> int:
    """Say what went wrong where nobody has looked for it: a file that the system refuses is no fault of tunekit."""
    if isinstance(error, OSError) and error.strerror:
        place = error.filename if error.filename is not None else "standard output"
        report(TunekitError(f"{place}: {error.strerror}"))
        return int(Exit.USAGE)
    if isinstance(error, RecursionError):
        report(TunekitError("something in what was given is nested too deep"))
        return int(Exit.USAGE)
    report(
        TunekitError(f"{type(error).__name__}: {error}", "this is a fault of tunekit; tunekit --debug … shows where")
    )
    return int(Exit.TRAINING_FAILED)


def _flushed(code: int) -> int:
    """The exit code after all is written; Python would write at exit, and end with 120 where that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError) and code == Exit.DONE:
            return _report_other(error)
    return code


def _debugging() -> bool:
    return os.environ.get("TUNEKIT_DEBUG") == "1"


def report(error: TunekitError) -> None:
    """Print an error for people, and those that were found beside it."""
    word = "\x1b[1;31merror:\x1b[0m" if coloured(sys.stderr) else "error:"
    from tunekit.plan.secrets import redact, secret_values

    hidden = secret_values(os.environ)
    for one in (error, *error.others):
        for head, message in ((word, f" {one.message}"), ("hint:", f"  {one.hint}" if one.hint else "")):
            if message:
                say(f"{head}{_wrapped(redact(_short(message), hidden))}")


def _short(message: str, most: int = 4000) -> str:
    """A message that people can read: a file's name or a word may be longer than all the rest."""
    return message if len(message) <= most else f"{message[: most // 2]} … {message[-most // 2 :]}"


def _wrapped(message: str) -> str:
    """A message behind its word of six columns, wrapped below itself in a terminal; words stay whole."""
    wide = columns(sys.stderr)
    if wide is None or len(message) + 6 <= wide:
        return message
    from textwrap import fill

    return fill(message, max(40, wide - 6), subsequent_indent=" " * 7, break_long_words=False, break_on_hyphens=False)


def _hide_secrets() -> None:
    """Start again without the secrets that stand among the arguments, where every user of the machine can read them."""
    argv = sys.argv[1:]
    if not any(word.startswith("--") for word in argv):
        return
    from tunekit.plan.secrets import move_to_environment

    kept, moved = move_to_environment(argv, os.environ)
    if moved:
        environ = {**os.environ, **moved, MOVED: " ".join(moved)}
        start = sys.orig_argv[1 : len(sys.orig_argv) - len(argv)]  # as it was started: by script, or with -m
        os.execve(sys.executable, [sys.executable, *start, *kept], environ)  # noqa: S606 - no shell is wanted
    names = os.environ.pop(MOVED, "")
    if names:
        say(f"warning: moved into the environment, where others cannot read it: {names}")


def _exit_of_cli(error: Exception) -> int | None:
    """The exit code of an error that the command line library raised about the arguments; None for any other."""
    from typer import Abort

    if isinstance(error, Abort):
        return int(Exit.INTERRUPTED)
    message = getattr(error, "format_message", None)
    if message is None:
        return None
    if message():  # else there were no arguments at all, and the help was shown
        context = getattr(error, "ctx", None)
        report(TunekitError(message(), f"{context.command_path if context else 'tunekit'} --help"))
    return int(Exit.USAGE)


if __name__ == "__main__":
    main()
