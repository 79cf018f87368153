"""The board as a web application: who may ask, and which page answers. It reads runs, and nothing can be written."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from tunekit.cli.board_plan import FIELDS, PLAINLY_ASKED, asked_of, first_asked, planned
from tunekit.cli.show.board import Frame
from tunekit.cli.show.board_list import list_page, list_row, unread_row
from tunekit.cli.show.board_planner import planner_answer, planner_page
from tunekit.cli.show.board_run import compare_page, run_page
from tunekit.cli.show.page import beside_page
from tunekit.cli.show.page_figure import LOOKS
from tunekit.cli.show.page_words import LANGUAGES
from tunekit.console import say
from tunekit.runs.scan import let_go

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from tunekit.runs.history import PastRun
    from tunekit.runs.scan import Scan

NAMES = ("127.0.0.1", "localhost", "[::1]")
"""What a browser may call this machine; by any other name somebody else's page is asking (DNS rebinding)."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

LONGEST_QUERY = 8192

PATIENCE = 0.1
"""Seconds in which a page of the list reads runs that it does not know yet."""

ASSETS = {"page.css": "text/css", "board.css": "text/css", "page.js": "text/javascript", "board.js": "text/javascript"}


class Guard:
    """Lets through who reads, asks this machine by its own name and has the token, in the address or as a cookie."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self.cookie = f"tunekit-board-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do it; whatever is no request of HTTP gets no answer."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        answer = self._refusal(request) or self._entry(request)
        if answer is None:
            await self._app(scope, receive, send)
        else:
            answer.headers.update(HEADERS)
            await answer(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("this page can only be read\n", 405, {"Allow": "GET, HEAD"})
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in NAMES:
            return PlainTextResponse("tunekit board answers 127.0.0.1 and localhost alone\n", 421)
        if len(request.url.query) > LONGEST_QUERY:
            return PlainTextResponse("the address is too long\n", 414)
        given = [request.cookies.get(self.cookie, ""), request.query_params.get("token", "")]
        if not any(secrets.compare_digest(word.encode(), self._token.encode()) for word in given):
            return PlainTextResponse("open the address that tunekit board printed: it holds a token\n", 403)
        return None

    def _entry(self, request: Request) -> Response | None:
        """What the address with the token leads to: the same without it, which by then is a cookie.

        The page goes on by itself, and is not sent on: a cookie that is strict is not taken along from elsewhere.
        """
        if "token" not in request.query_params:
            return None
        page = '<!doctype html><html lang="en"><title>tunekit</title><meta http-equiv="refresh" content="0;url=/">'
        answer = HTMLResponse(f"{page}\n")
        answer.set_cookie(self.cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer


class ListRows:
    """The rows of the list, each drawn once; one is drawn anew where its run has changed or goes on."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._drawn: dict[tuple[str, str], tuple[PastRun, str]] = {}

    def rows(self, frame: Frame, runs: Sequence[PastRun], seconds: float = PATIENCE) -> tuple[list[str], bool]:
        """A row a run, and whether all were read: of those that are not in `seconds`, only the name is told."""
        end, all_read, found = time.monotonic() + seconds, True, []
        for run in runs:
            key = self._scan.key(run)
            before = self._drawn.get((key, frame.language))
            if before and before[0] is run and not run.alive:
                found.append(before[1])
            elif time.monotonic() < end:
                found.append(self._draw(frame, run, key))
            else:
                found.append(unread_row(frame, run, key))
                all_read = False
        return found, all_read

    def _draw(self, frame: Frame, run: PastRun, key: str) -> str:
        row = list_row(frame, run, key)
        if not run.alive:
            self._drawn[key, frame.language] = run, row
            let_go(run)
        return row


class Board:
    """The pages, made of a scan of runs. Each is a function of its address alone."""

    def __init__(self, scan: Scan, language: str) -> None:
        self._scan, self._language, self._rows = scan, language, ListRows(scan)
        self._assets = {name: beside_page(name) for name in ASSETS}

    def app(self) -> Starlette:
        """The application, without its guard."""
        routes = [
            Route("/", self.runs),
            Route("/run/{key:path}", self.run),
            Route("/compare", self.compare),
            Route("/plan", self.plan),
            Route("/{name:path}", self.other),
        ]
        return Starlette(routes=routes, exception_handlers={Exception: self.fault})

    def fault(self, request: Request, error: Exception) -> Response:
        """What a page says that cannot be made; the terminal has the reason in a line."""
        say(f"error: {request.url.path}: {type(error).__name__}: {error}")
        frame = self.frame(request)
        return self.answer(request, frame.sorry(frame.word("fault")), 500)

    def read_all(self) -> None:
        """Draw the rows of all runs, however long that takes: then the list is quick."""
        self._rows.rows(Frame(self._language, "/"), self._scan.history().runs, float("inf"))

    def frame(self, request: Request) -> Frame:
        """What stands around a page, in the language that was asked for last."""
        asked = request.query_params.get("lang", "") or request.cookies.get("tunekit-board-lang", "")
        language = asked if asked in LANGUAGES else self._language
        return Frame(language, request.url.path, parse_qsl(request.url.query))

    def answer(self, request: Request, page: str, status: int = 200) -> Response:
        """A page, or that it is the one which the browser has."""
        tag = f'"{hashlib.sha256(page.encode()).hexdigest()[:32]}"'
        same = status == 200 and request.headers.get("if-none-match") == tag
        answer = Response(status_code=304) if same else HTMLResponse(page, status)
        answer.headers.update({**HEADERS, "ETag": tag})
        chosen = request.query_params.get("lang", "")
        if chosen in LANGUAGES:
            answer.set_cookie("tunekit-board-lang", chosen, httponly=True, samesite="strict", path="/")
        return answer

    def runs(self, request: Request) -> Response:
        """The list."""
        frame, found = self.frame(request), self._scan.history()
        rows, all_read = self._rows.rows(frame, found.runs)
        return self.answer(request, list_page(frame, found, rows, all_read=all_read))

    def run(self, request: Request) -> Response:
        """What its report says, how it is doing, and the end of its log."""
        frame, key = self.frame(request), request.path_params["key"]
        found = self._scan.named(key)
        if found is None:
            return self.answer(request, frame.sorry(frame.word("no such run", key)), 404)
        return self.answer(request, run_page(frame, found))

    def compare(self, request: Request) -> Response:
        """Several runs."""
        frame = self.frame(request)
        keys = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 2 <= len(keys) <= len(LOOKS):
            said = frame.word("too few") if len(keys) < 2 else frame.word("too many", len(LOOKS))
            return self.answer(request, frame.sorry(said), 400)
        found = [(key, self._scan.named(key)) for key in keys]
        runs = [run for _, run in found if run is not None]
        if len(runs) < len(found):
            lost = next(key for key, run in found if run is None)
            return self.answer(request, frame.sorry(frame.word("no such run", lost)), 404)
        return self.answer(request, compare_page(frame, runs))

    def plan(self, request: Request) -> Response:
        """The planner: the form as it was sent, and its answer."""
        frame, query = self.frame(request), dict(request.query_params)
        asked = asked_of(query if any(name in query for name in FIELDS) else first_asked())
        made = planned(asked)
        answer = planner_answer(frame, asked, made)
        return self.answer(request, planner_page(frame, asked.fields, self.lists(), answer))

    def lists(self) -> dict[str, list[str]]:
        """What the form offers: stages, presets, and the models and datasets of earlier runs."""
        from tunekit.runs.prepare import look_around

        plans = [run.state.plan for run in self._scan.history().runs]
        return {
            "stages": list(PLAINLY_ASKED),
            "presets": look_around().shelf.names(),
            "models": list(dict.fromkeys(plan.model.id for plan in plans)),
            "datasets": list(dict.fromkeys(name for plan in plans for name in plan.words("dataset"))),
        }

    def other(self, request: Request) -> Response:
        """The style sheets and scripts; anything else is not there."""
        name = request.path_params["name"]
        if name in ASSETS:
            return Response(self._assets[name], media_type=ASSETS[name], headers=dict(HEADERS))
        frame = self.frame(request)
        return self.answer(request, frame.sorry(frame.word("no such page")), 404)


def guarded(scan: Scan, language: str, token: str, port: int, *, ahead: bool = False) -> ASGIApp:
    """The application that the board serves. `ahead`: runs are read from now on, beside the first requests."""
    board = Board(scan, language)
    if ahead:
        threading.Thread(target=board.read_all, daemon=True).start()
    return Guard(board.app(), token, port)
