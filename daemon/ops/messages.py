"""What the ops port's server and its pages pass to each other: a request, and what answers it."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

JSON: Final = "application/json; charset=utf-8"
MOST_PARAMETERS: Final = 32
READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. Names of `headers` are lower-case. `query` has the first value of each parameter; `parameter` is what
    stands for `*` in the route's path; `peer` is the address of the client, or of the proxy before it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    parameter: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""
    body: bytes = b""

    @property
    def cookies(self) -> dict[str, str]:
        """Return the cookies; none where the header cannot be read."""
        try:
            return {name: one.value for name, one in SimpleCookie(self.headers.get("cookie", "")).items()}
        except CookieError:
            return {}

    @property
    def form(self) -> dict[str, str]:
        """Return the fields of a form that was posted. Raises ValueError where the body is none."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise ValueError("not a form")
        return parameters(self.body.decode("ascii"))


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer: status, body and its type. `headers` add to the server's own, or replace them; each of `cookies` is
    the value of one Set-Cookie."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpStream:
    """An answer that goes on, part by part, until `parts` ends, its client leaves, or its time is over."""

    parts: AsyncGenerator[bytes, None]
    content_type: str


Page = Callable[[], Awaitable[HttpReply]]


@dataclass(frozen=True, slots=True)
class Route:
    """A page that looks at its request. A `path` that ends in `/*` is answered for any one segment there."""

    path: str
    answer: Callable[[HttpRequest], Awaitable[HttpReply | HttpStream]]
    methods: tuple[str, ...] = READS


def as_json(status: int, answer: Mapping[str, Any]) -> HttpReply:
    """An answer as JSON, with a newline at its end for terminals."""
    text = json.dumps(answer, ensure_ascii=False, indent=2, default=_json)
    return HttpReply(status, text.encode(errors="backslashreplace") + b"\n")


def _json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def parameters(text: str) -> dict[str, str]:
    """Return the first value of each parameter of a query string or a form. Raises ValueError where there are too many,
    or a NUL, which no database takes."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_PARAMETERS):
        if "\0" in value:
            raise ValueError("a NUL in a parameter")
        found.setdefault(name, value)
    return found


def find_route(routes: Mapping[str, Route], raw_path: str) -> tuple[Route, str] | None:
    """Return the route of a path as it was sent, and what stands for its `*`. A segment is decoded once, and is never
    taken for several."""
    if (route := routes.get(raw_path)) is not None:
        return route, ""
    folder, _, segment = raw_path.rpartition("/")
    route = routes.get(f"{folder}/*")
    if route is None or not segment:
        return None
    try:
        return route, unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None
