"""The page's forms: signing in, and the actions. Before each action a confirmation shows the current numbers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import quote

from daemon.core.operations import Action, Operation, Operator
from daemon.core.page_actions import ON_THE_PAGE, ActionPreview, ActionRefused, ActionResult, seen, skus_of
from daemon.core.page_sessions import PageSession, is_same
from daemon.core.types import ChannelName, Sku
from daemon.ops.messages import HttpReply, HttpRequest, Route
from daemon.ops.page.access import LONGEST_OPERATOR, Access
from daemon.ops.page.running import RunningActions
from daemon.ops.page.site import PageContent, Site

_BOTH: Final = ("GET", "HEAD", "POST")
_LONGEST_REASON: Final = 500


class Actions(Protocol):
    """What the forms can do. Each method raises StockrelayError, and ActionRefused with the text for the form."""

    def channels(self) -> list[ChannelName]: ...

    async def recent(self) -> list[Operation]: ...

    async def preview(
        self, action: Action, channel: ChannelName, skus: Sequence[Sku] | None
    ) -> ActionPreview: ...

    async def act(
        self,
        operator: Operator,
        action: Action,
        channel: ChannelName,
        skus: Sequence[Sku] | None,
        reason: str,
    ) -> ActionResult: ...


@dataclass(frozen=True, slots=True)
class _FormRequest:
    """The action that a form, or a link to it, requests. `skus_text` is the field as it was filled in."""

    action: Action
    channel: ChannelName
    skus_text: str
    reason: str

    @property
    def skus(self) -> tuple[Sku, ...] | None:
        return skus_of(self.skus_text)


def routes_without_token(site: Site) -> list[Route]:
    """Return what answers at the addresses of the forms where no token is set: why they do nothing."""

    async def make(_request: HttpRequest) -> PageContent:
        return 404, "message.html", {"message": "no_token"}

    paths = ("/sign-in", "/sign-out", "/operate", "/do/*", "/operation/*")
    return [Route(path, partial(site.page, make), _BOTH) for path in paths]


@dataclass(eq=False)
class Forms:
    """Answers the addresses of the forms, where a token is set."""

    site: Site
    access: Access
    actions: Actions
    running: RunningActions = field(default_factory=RunningActions)

    def routes(self) -> list[Route]:
        """Return the routes of the forms."""
        return [
            Route("/sign-in", self._sign_in, _BOTH),
            Route("/sign-out", self._sign_out, ("POST",)),
            Route("/operate", partial(self._signed_in, self._operate)),
            Route("/do/*", self._do, _BOTH),
            Route("/operation/*", partial(self._signed_in, self._operation)),
        ]

    def account(self, request: HttpRequest) -> Mapping[str, Any]:
        """Return what every page shows about the session."""
        session = self.access.session(request)
        return {"account": {"name": session and session.name, "csrf": session and session.csrf}}

    async def _sign_in(self, request: HttpRequest) -> HttpReply:
        if request.method != "POST":
            # A token in an address would stand in histories and in logs of proxies.
            problem = "sign_in.in_address" if request.query.keys() & {"token", "name"} else None
            return await self._form(request, 400 if problem else 200, problem)
        form = _form_of(request)
        if form is None or request.query:
            return await self._form(request, 400, "refused.form")
        name = form.get("name", "").strip()[:LONGEST_OPERATOR]
        if not name:
            return await self._form(request, 400, "sign_in.no_name")
        if self.access.failures.wait_s(self.access.now()) > 0:
            return await self._form(request, 429, "sign_in.too_often", name)
        cookie = self.access.sign_in(request, name, form.get("token", ""))
        if cookie is None:
            return await self._form(request, 403, "sign_in.wrong", name)
        return _redirect("/operate", cookie)

    async def _form(
        self, request: HttpRequest, status: int, problem: str | None, name: str = ""
    ) -> HttpReply:
        return await self._page(request, status, "sign_in.html", {"problem": problem, "name": name})

    async def _sign_out(self, request: HttpRequest) -> HttpReply:
        form, session = _form_of(request), self.access.session(request)
        if session is not None and not (form and is_same(form.get("csrf", ""), session.csrf)):
            return await self._page(request, 403, "refused.html", {"problem": "refused.csrf"})
        return _redirect("/", self.access.sign_out(request))

    async def _signed_in(
        self, answer: Callable[[HttpRequest, PageSession], Awaitable[HttpReply]], request: HttpRequest
    ) -> HttpReply:
        session = self.access.session(request)
        return _redirect("/sign-in") if session is None else await answer(request, session)

    async def _operate(self, request: HttpRequest, _session: PageSession) -> HttpReply:
        async def make(_request: HttpRequest) -> PageContent:
            facts = {"operations": await self.actions.recent(), "actions": ON_THE_PAGE}
            return 200, "operate.html", facts

        return await self.site.page(make, request)

    async def _operation(self, request: HttpRequest, _session: PageSession) -> HttpReply:
        running = self.running.find(request.parameter)
        if running is None:
            return await self._page(request, 404, "message.html", {"message": "not_found"})
        return await self._page(request, 200, "operation.html", {"running": running})

    async def _do(self, request: HttpRequest) -> HttpReply:
        """A GET shows the confirmation. Only a POST with the session's CSRF token and the current numbers acts."""
        session = self.access.session(request)
        is_post = request.method == "POST"
        if session is None:
            if not is_post:
                return _redirect("/sign-in")
            return await self._page(request, 403, "refused.html", {"problem": "refused.signed_out"})
        fields = _form_of(request) if is_post else request.query
        if is_post and (fields is None or not is_same(fields.get("csrf", ""), session.csrf)):
            return await self._page(request, 403, "refused.html", {"problem": "refused.csrf"})
        asked = self._requested(request.parameter, fields or {})
        if asked is None:
            return await self._page(request, 404, "message.html", {"message": "not_found"})
        return await self.site.page(partial(self._confirm, asked, fields or {}, session), request)

    def _requested(self, action: str, fields: Mapping[str, str]) -> _FormRequest | None:
        known = next((one for one in ON_THE_PAGE if one == action), None)
        channel = next((one for one in self.actions.channels() if one == fields.get("channel")), None)
        if known is None or channel is None:
            return None
        skus = fields.get("skus", fields.get("sku", ""))
        return _FormRequest(known, channel, skus, fields.get("reason", "")[:_LONGEST_REASON])

    async def _confirm(
        self, asked: _FormRequest, fields: Mapping[str, str], session: PageSession, request: HttpRequest
    ) -> PageContent | HttpReply:
        """Show the confirmation, or act if the current numbers are those that were confirmed."""
        preview = ActionPreview()
        problem, status = None, 200
        try:
            if asked.action is not Action.PUSH or asked.skus is not None or request.method == "POST":
                preview = await self.actions.preview(asked.action, asked.channel, asked.skus)
        except ActionRefused as error:
            problem, status = error.text, 409 if request.method == "POST" else 200
        if request.method == "POST" and problem is None:
            if self.running.is_full:
                problem, status = "refused.busy", 429
            elif fields.get("seen") != seen(preview):
                problem, status = "refused.changed", 409
            else:
                return _redirect(f"/operation/{self._begin(asked, session, request)}")
        facts = {
            "asked_for": asked,
            "preview": preview,
            "seen": seen(preview),
            "problem": problem,
        }
        return status, "confirm.html", facts

    def _begin(self, asked: _FormRequest, session: PageSession, request: HttpRequest) -> str:
        operator = Operator(session.name, f"the page, at {request.peer}")
        work = self.actions.act(operator, asked.action, asked.channel, asked.skus, asked.reason)
        return self.running.begin(asked.action, asked.channel, work)

    async def _page(
        self, request: HttpRequest, status: int, template: str, facts: Mapping[str, Any]
    ) -> HttpReply:
        async def make(_request: HttpRequest) -> PageContent:
            return status, template, facts

        return await self.site.page(make, request)


def _form_of(request: HttpRequest) -> Mapping[str, str] | None:
    """The fields of a form; None: it cannot be read."""
    try:
        return request.form
    except ValueError:
        return None


def _redirect(path: str, cookie: str | None = None) -> HttpReply:
    """Redirect the browser to another page."""
    reply = HttpReply(303, b"", "text/plain; charset=utf-8", {"Location": quote(path)})
    return reply if cookie is None else replace(reply, cookies=(cookie,))
