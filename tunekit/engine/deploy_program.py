"""Run ``swift deploy`` in this process, with the key from the environment: an argument could be read by all users.

It is started by its path, in the environment of ms-swift, without its launcher: ended alone, that one would leave the
server behind. The first word names the variable that holds the key. Nothing of tunekit is imported.
"""

from __future__ import annotations

import os
import sys


def deploy_here() -> None:
    """Serve, with the words of the command line."""
    sys.path[:] = [place for place in sys.path if place and place != os.path.dirname(__file__)]  # noqa: PTH120
    variable, *words = sys.argv[1:]
    key = os.environ.pop(variable, "")
    from swift.pipelines import deploy_main

    deploy_main([*words, *(["--api_key", key] if key else [])])


if __name__ == "__main__":
    deploy_here()
