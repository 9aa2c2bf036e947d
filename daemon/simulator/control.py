"""The control interface under `/_sim/`: JSON in, JSON out, unknown fields refused by name."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, fields
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import Field, ValidationError

from daemon.core.callers import is_cross_origin, is_foreign_host
from daemon.simulator.faults import FAULT, WrongFault
from daemon.simulator.journal import Entry, Key
from daemon.simulator.marketplaces import MARKETPLACES
from daemon.simulator.settings import Frozen
from daemon.simulator.shops import SimulatorSettings, WrongShop

if TYPE_CHECKING:
    from daemon.simulator.server import Simulator

MAX_PAGE: Final = 100_000


class JournalQuery(Frozen):
    """Which part of the journal: numbers above `since`, oldest first."""

    shop: str | None = None
    since: int = Field(default=0, ge=0)
    limit: int = Field(default=1_000, ge=1, le=MAX_PAGE)


class StateQuery(Frozen):
    shop: str | None = None


class Nothing(Frozen):
    """No fields."""


class Quantity(Frozen):
    """A product's number; null takes the product out."""

    key: Key
    quantity: Annotated[int, Field(ge=0)] | None


class StateChange(Frozen):
    """Numbers that somebody sets in the marketplace's back office: they are not in the journal."""

    shop: str
    quantities: tuple[Quantity, ...] = Field(min_length=1)


class Reset(Frozen):
    """What is forgotten."""

    journal: bool = True
    state: bool = True
    stats: bool = True
    faults: bool = True
    tokens: bool = False
    nonces: bool = False


class _ControlCallError(Exception):
    """The call is wrong: status and what to say."""

    def __init__(self, status: int, text: str, fields: list[dict[str, str]] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.fields = fields or []


class Control:
    """Answers control calls for one simulator."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        handlers: dict[tuple[str, str], Callable[[web.BaseRequest], Awaitable[object]]] = {
            ("GET", "state"): self._get_state,
            ("POST", "state"): self._post_state,
            ("GET", "journal"): self._get_journal,
            ("GET", "stats"): self._get_stats,
            ("GET", "comparisons"): self._get_comparisons,
            ("GET", "config"): self._get_config,
            ("POST", "config"): self._post_config,
            ("GET", "faults"): self._get_faults,
            ("POST", "faults"): self._post_fault,
            ("DELETE", "faults"): self._delete_faults,
            ("POST", "reset"): self._post_reset,
        }
        self._handlers: Final[Mapping[tuple[str, str], Callable[[web.BaseRequest], Awaitable[object]]]] = (
            handlers
        )

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Never raises for a wrong call: the answer's `error` and `fields` say what is wrong."""
        try:
            self._check_caller(request)
            answer: object = await self._dispatch(request)
            status = 200
        except _ControlCallError as refused:
            answer, status = {"error": str(refused), "fields": refused.fields}, refused.status
        except ValidationError as error:
            answer, status = {"error": "fields are wrong", "fields": _problems(error)}, 400
        body = json.dumps(answer, ensure_ascii=False).encode() + b"\n"
        return web.Response(status=status, body=body, content_type="application/json", charset="utf-8")

    def _check_caller(self, request: web.BaseRequest) -> None:
        """Refuse other machines, and web pages that a browser on this machine shows: a page can send a form or plain
        text anywhere without being asked, but no JSON."""
        if is_cross_origin({name.lower(): value for name, value in request.headers.items()}):
            raise _ControlCallError(403, "pages of other sites are not answered")
        if request.method == "POST" and request.content_type != "application/json":
            raise _ControlCallError(415, "the body must be sent as application/json: `curl --json '{...}'`")
        if self._simulator.settings.control_from_anywhere:
            return
        if is_foreign_host(request.headers.get("Host"), ()):
            raise _ControlCallError(421, "control calls name this machine by an IP address or as localhost")
        try:
            is_loopback = ip_address(request.remote or "").is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise _ControlCallError(
                403, "control calls are taken from this machine only (control_from_anywhere)"
            )

    async def _dispatch(self, request: web.BaseRequest) -> object:
        name = request.path.removeprefix("/_sim/").strip("/")
        if name.startswith("faults/"):
            return self._one_fault(request, name)
        handler = self._handlers.get((request.method, name))
        if handler is not None:
            return await handler(request)
        methods = [method for method, known in self._handlers if known == name]
        if methods:
            raise _ControlCallError(405, f"{name} takes {', '.join(methods)}")
        names = sorted({f"{known_method} {known}" for known_method, known in self._handlers})
        raise _ControlCallError(404, f"there is no {name!r} here; there is: {', '.join(names)}")

    def _one_fault(self, request: web.BaseRequest, name: str) -> object:
        number, _, action = name.removeprefix("faults/").partition("/")
        faults = self._simulator.faults
        if (request.method, action) not in {("GET", ""), ("DELETE", ""), ("POST", "release")}:
            raise _ControlCallError(405, "a fault takes GET, DELETE, or POST .../release")
        try:
            rule = faults[int(number)]
        except (KeyError, ValueError):
            raise _ControlCallError(404, f"there is no fault {number}") from None
        if request.method == "DELETE":
            held = rule.held
            faults.remove(rule.id)
            return {"removed": 1, "released": held}
        if action == "release":
            return {"released": faults.release(rule.id)}
        return rule.as_json()

    async def _get_state(self, request: web.BaseRequest) -> object:
        query = StateQuery.model_validate(_query(request))
        return {
            name: [
                {"key": key, "quantity": quantity} for key, quantity in self._simulator.state.of(name).items()
            ]
            for name in self._shops(query.shop)
        }

    def _shops(self, asked: str | None) -> list[str]:
        """The shop that is asked for, or all of them."""
        known = list(self._simulator.settings.shops)
        if asked is None:
            return known
        if asked not in known:
            problem = f"there is no such shop; there is: {', '.join(known)}"
            raise _ControlCallError(400, "fields are wrong", [{"field": "shop", "problem": problem}])
        return [asked]

    async def _post_state(self, request: web.BaseRequest) -> object:
        change = StateChange.model_validate_json(await _body(request))
        (shop,) = self._shops(change.shop)
        marketplace = MARKETPLACES[self._simulator.settings.shops[shop].marketplace]
        for row in change.quantities:
            if not isinstance(row.key, marketplace.keys):
                problem = {"field": "quantities.key", "problem": f"a key is {marketplace.key_words}"}
                raise _ControlCallError(400, "fields are wrong", [problem])
        for row in change.quantities:
            if row.quantity is None:
                self._simulator.state.remove(shop, row.key)
            else:
                self._simulator.state.put(shop, row.key, row.quantity)
        return {"set": len(change.quantities)}

    async def _get_journal(self, request: web.BaseRequest) -> object:
        query = JournalQuery.model_validate(_query(request))
        self._shops(query.shop)
        journal = self._simulator.journal
        entries = journal.since(query.since, query.shop, query.limit)
        return {"last": journal.last, "dropped": journal.dropped, "entries": [_entry(e) for e in entries]}

    async def _get_stats(self, request: web.BaseRequest) -> object:
        Nothing.model_validate(_query(request))
        stats = self._simulator.stats
        requests: dict[str, dict[str, dict[str, int]]] = {name: {} for name in self._shops(None)}
        for (shop, endpoint, answer), count in stats.requests.items():
            requests.setdefault(shop, {}).setdefault(endpoint, {})[answer] = count
        plain = {field.name: getattr(stats, field.name) for field in fields(stats)}
        products = {name: self._simulator.state.count(name) for name in self._shops(None)}
        overlaps = [asdict(overlap) for overlap in stats.overlaps]
        return plain | {"requests": requests, "overlaps": overlaps, "products": products}

    async def _get_comparisons(self, request: web.BaseRequest) -> object:
        Nothing.model_validate(_query(request))
        return {"comparisons": [asdict(comparison) for comparison in self._simulator.comparisons]}

    async def _get_config(self, request: web.BaseRequest) -> object:
        Nothing.model_validate(_query(request))
        return self._simulator.settings.model_dump(mode="json")

    async def _post_config(self, request: web.BaseRequest) -> object:
        change = _json_object(await _body(request))
        revoke = change.pop("revoke_tokens", False)
        if not isinstance(revoke, bool):
            problem = {"field": "revoke_tokens", "problem": "must be true or false"}
            raise _ControlCallError(400, "fields are wrong", [problem])
        current = self._simulator.settings.model_dump(mode="json")
        settings = SimulatorSettings.model_validate_json(json.dumps(_merged(current, change)))
        self._simulator.configure(settings)
        if revoke:
            self._simulator.revoke_tokens()
        return settings.model_dump(mode="json")

    async def _get_faults(self, request: web.BaseRequest) -> object:
        Nothing.model_validate(_query(request))
        return {"faults": [rule.as_json() for rule in self._simulator.faults]}

    async def _post_fault(self, request: web.BaseRequest) -> object:
        fault = FAULT.validate_json(await _body(request))
        try:
            return self._simulator.faults.add(fault).as_json()
        except WrongFault as wrong:
            problem = {"field": f"{fault.kind}.{wrong.field}", "problem": str(wrong)}
            raise _ControlCallError(400, "fields are wrong", [problem]) from wrong
        except ValueError as error:
            raise _ControlCallError(409, str(error)) from error

    async def _delete_faults(self, request: web.BaseRequest) -> object:
        Nothing.model_validate(_query(request))
        faults = self._simulator.faults
        removed, held = len(faults), sum(rule.held for rule in faults)
        faults.clear()
        return {"removed": removed, "released": held}

    async def _post_reset(self, request: web.BaseRequest) -> object:
        wanted = Reset.model_validate_json(await _body(request) or b"{}")
        self._simulator.reset(**wanted.model_dump())
        return {"reset": [name for name, is_wanted in wanted.model_dump().items() if is_wanted]}


def _entry(entry: Entry) -> dict[str, object]:
    return entry._asdict()


def _query(request: web.BaseRequest) -> dict[str, str]:
    return dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))


async def _body(request: web.BaseRequest) -> bytes:
    return await request.read()


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        raise _ControlCallError(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise _ControlCallError(400, "the body is not a JSON object")
    return value


def _merged(current: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`change` over `current`, objects merged, everything else replaced."""
    result = dict(current)
    for name, value in change.items():
        old = result.get(name)
        result[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def _problems(error: ValidationError) -> list[dict[str, str]]:
    problems: list[dict[str, str]] = []
    for problem in error.errors():
        cause = problem.get("ctx", {}).get("error")
        place = (*problem["loc"], *(cause.place if isinstance(cause, WrongShop) else ()))
        text = cause.problem if isinstance(cause, WrongShop) else problem["msg"]
        problems.append({"field": ".".join(map(str, place)), "problem": text})
    return problems
