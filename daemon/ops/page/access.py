"""Signing in on the page: the token opens a session, which a cookie carries and each form proves."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from daemon import clock
from daemon.core.page_sessions import LASTS_S, FailedSignIns, PageSession, PageSessions, is_same
from daemon.ops.messages import HttpRequest

log = structlog.get_logger(__name__)

COOKIE: Final = "stockrelay_session"
LONGEST_OPERATOR: Final = 100


@dataclass(eq=False)
class Access:
    """Who may act. `token` returns the token of now; None: nobody."""

    token: Callable[[], str | None]
    now: Callable[[], float] = clock.monotonic
    sessions: PageSessions = field(default_factory=PageSessions)
    failures: FailedSignIns = field(default_factory=FailedSignIns)

    def session(self, request: HttpRequest) -> PageSession | None:
        """Return the session of a request's cookie."""
        return self.sessions.find(request.cookies.get(COOKIE), self.now())

    def sign_in(self, request: HttpRequest, name: str, token: str) -> str | None:
        """Return the cookie of a new session; None: the token is wrong, or too many were."""
        now, wanted = self.now(), self.token()
        if wanted is None or self.failures.wait_s(now) > 0:
            return None
        # A token that was typed in place of the name would stand in the log of operations.
        if not is_same(token, wanted) or wanted in name:
            self.failures.note(now)
            # Bounded: after ten failures no token is checked for a while.
            log.warning("ops.sign_in_failed", peer=request.peer)
            return None
        cookie = secrets.token_urlsafe(32)
        self.sessions.begin(cookie, name, secrets.token_urlsafe(32), now)
        log.info("ops.signed_in", operator=name, peer=request.peer)
        # A browser that came by https, through a proxy, says so itself; a proxy's header could be anybody's.
        secure = "; Secure" if request.headers.get("origin", "").lower().startswith("https://") else ""
        return f"{COOKIE}={cookie}; Path=/; Max-Age={LASTS_S:.0f}; HttpOnly; SameSite=Strict{secure}"

    def sign_out(self, request: HttpRequest) -> str:
        """End the request's session; return the cookie that removes its own."""
        self.sessions.end(request.cookies.get(COOKIE))
        return f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
