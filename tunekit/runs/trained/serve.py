"""Serve a trained model on this machine until it is stopped: nothing of the server is left behind."""

from __future__ import annotations

import http
import os
import socket
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit import engine
from tunekit.console import say
from tunekit.errors import TunekitError
from tunekit.runs.attempts import engine_or_fail
from tunekit.runs.trained.backends import BACKENDS, KEY, LOOPBACK
from tunekit.runs.trained.use import ProgressLine, program_error, try_program

if TYPE_CHECKING:
    from tunekit.engine.command import Command
    from tunekit.runs.trained.backends import Backend, Service


PROGRAM = Path(engine.__file__).with_name("deploy_program.py")
"""Serves without the launcher of ms-swift."""


def check_service(backend: Backend, service: Service) -> None:
    """Look before anything is loaded. Raises TunekitError: not installed, the port is taken, or anybody could ask."""
    if not backend.here:
        raise TunekitError(f"{backend.package} is not installed here", f"{backend.get}, or take --backend swift")
    if service.host not in LOOPBACK and not service.key:
        raise TunekitError(
            f"on {service.host} others could ask it, and there is no key", f'export {KEY}="$(openssl rand -hex 24)"'
        )
    if service.key and not backend.key_variable:
        raise TunekitError(
            f"{backend.name} takes a key only as an argument, which all users of the machine can read",
            f"serve on {LOOPBACK[0]} without one: unset {KEY}",
        )
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((service.host, service.port))
        except OSError as error:
            why = f"port {service.port} of {service.host} cannot be taken: {error.strerror}"
            raise TunekitError(why, "take another one: --port 8001") from error


def serve_until_stopped(backend: Backend, service: Service) -> None:
    """Serve. Raises TunekitError where the server ended by itself, KeyboardInterrupt where it was stopped."""
    watch = _Watch(service, backend)
    log = service.job.target.log("serve")
    failure = try_program(_started(backend, service), log, watch)
    if failure:
        raise program_error(f"serving {service.job.target.name}", failure, log)
    raise TunekitError(f"{backend.name} ended by itself", f"full log: {log}")


def _started(backend: Backend, service: Service) -> Command:
    """The command as it is run here: ms-swift's without its launcher, and the key under the name that is read."""
    command = backend.command(service)
    if backend is BACKENDS["swift"]:
        return replace(command, argv=(engine_or_fail().python, str(PROGRAM), KEY, *command.argv[2:]))
    environ = {**command.env, backend.key_variable: os.environ[KEY]} if service.key else command.env
    words = list(command.argv)
    beside = Path(sys.executable).parent / words[0]
    return replace(command, argv=(str(beside) if beside.is_file() else words[0], *words[1:]), env=environ)


class _Watch(ProgressLine):
    """Says when the server answers, and how it is asked."""

    def __init__(self, service: Service, backend: Backend) -> None:
        super().__init__(f"loading {service.job.target.name}")
        self._service, self._backend, self._ready = service, backend, False

    def tick(self) -> None:
        """Look whether it answers; say it once."""
        if self._ready:
            return
        if not self._answers():
            super().tick()
            return
        self._ready = True
        self.end()
        name = self._backend.model.format(base=self._service.job.target.name, name=self._service.name)
        key = f' -H "Authorization: Bearer ${KEY}"' if self._service.key else ""
        say(f"ready: {self._service.url} · model {name} · Ctrl-C ends it")
        asked = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        say(f"  curl {self._service.url}/chat/completions{key} -H 'Content-Type: application/json' -d '{asked}'")

    def _answers(self) -> bool:
        health = f"{self._service.url.removesuffix('/v1')}/health"
        try:
            with urllib.request.urlopen(health, timeout=1) as answer:  # noqa: S310 - it is of this machine
                return bool(answer.status == http.HTTPStatus.OK)
        except (OSError, ValueError):  # not up yet
            return False
