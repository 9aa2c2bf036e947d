"""Who is signed in on the page, and how often signing in may fail. Times are monotonic seconds."""

import hmac
from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

LASTS_S: Final = 8 * 3600.0
"""A session ends this long after its sign-in."""
MOST_SESSIONS: Final = 64
MOST_FAILURES: Final = 10
FAILURES_WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class PageSession:
    """`csrf` stands in each form of the session; a page of another site cannot know it."""

    name: str
    csrf: str
    until: float


@dataclass(eq=False)
class PageSessions:
    """The sessions of this process, by what their cookies hold. A restart ends them all."""

    _sessions: dict[str, PageSession] = field(default_factory=dict)

    def begin(self, cookie: str, name: str, csrf: str, now: float) -> PageSession:
        """Begin a session; of too many the oldest ends."""
        self._sessions = {key: one for key, one in self._sessions.items() if one.until > now}
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        session = self._sessions[_key(cookie)] = PageSession(name, csrf, now + LASTS_S)
        return session

    def find(self, cookie: str | None, now: float) -> PageSession | None:
        """Return the session of a cookie, while it lasts."""
        session = None if cookie is None else self._sessions.get(_key(cookie))
        return session if session is not None and session.until > now else None

    def end(self, cookie: str | None) -> None:
        """End a session; its cookie opens nothing any more."""
        if cookie is not None:
            self._sessions.pop(_key(cookie), None)


def _key(cookie: str) -> str:
    # A look-up by the hash says nothing, by its duration, of the cookies that exist.
    return sha256(cookie.encode(errors="surrogatepass")).hexdigest()


@dataclass(eq=False)
class FailedSignIns:
    """Bounds how many tokens can be tried in a minute, by all clients together: an attacker has many addresses."""

    _at: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_FAILURES))

    def wait_s(self, now: float) -> float:
        """Return for how long no token is checked; 0: the next one is."""
        if len(self._at) < MOST_FAILURES:
            return 0.0
        return max(0.0, self._at[0] + FAILURES_WINDOW_S - now)

    def note(self, now: float) -> None:
        """A token was wrong."""
        self._at.append(now)


def is_same(given: str, wanted: str) -> bool:
    """Compare a token in constant time."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), wanted.encode(errors="surrogatepass"))
