"""Run ``swift deploy`` in this process, with the key from the environment: an argument could be read by all users.

It is started by its path, in the environment of ms-swift, without its launcher: ended alone, that one would leave the
server behind. Nothing of tunekit is imported.
"""

from __future__ import annotations

import os
import sys

KEY = "TUNEKIT_SERVE_KEY"
"""The variable that holds the key of a server."""


def main() -> None:
    """Serve, with the words of the command line."""
    sys.path[:] = [place for place in sys.path if place and place != os.path.dirname(__file__)]  # noqa: PTH120
    key = os.environ.pop(KEY, "")
    from swift.pipelines import deploy_main

    deploy_main([*sys.argv[1:], *(["--api_key", key] if key else [])])


if __name__ == "__main__":
    main()
