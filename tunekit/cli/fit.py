"""``tunekit fit``: what a run will take of a GPU, before the GPU is touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.said import Words

HELP = """Tell the peak memory of a run before it starts: fits, tight, or does not fit (exit code 3).

Any flag of ms-swift that changes the memory may be added, such as --use_liger_kernel true."""


def fit(_command: str, words: Words, given: Mapping[str, Any]) -> int:
    """Predict. `given` holds the options that were typed, by name. Returns the exit code."""
    from tunekit.cli.show import memory
    from tunekit.cli.show.picture import check_picture
    from tunekit.runs.forecast import answers_of, forecast, trace_limit

    picture, spec = (Path(given[name]) if name in given else None for name in ("plot", "spec"))
    if picture:
        check_picture(picture, many=spec is not None)
    if spec:
        memory.print_answers(answers_of(spec, trace_limit(words)))
        return int(Exit.DONE)
    if "model" not in words.said:
        raise TunekitError("tunekit fit needs --model, or --spec FILE")
    if "where" in given:
        from tunekit.cli.show.where import show_places
        from tunekit.runs.forecast import places

        show_places(*places(words), as_json="json" in given)
        return int(Exit.DONE)
    made = forecast(words, by_trace="trace" in given)
    if "what_if" in given:
        memory.show_what_if(made, picture, as_json="json" in given)
        return int(Exit.DONE)
    return memory.show_prediction(made, as_json="json" in given, picture=picture)
