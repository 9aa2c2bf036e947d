"""What `stockrelay init` finds in a database, and the file that it makes of a proposal."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from typing import Final

from pydantic import SecretStr

from daemon.core.errors import StoreRefused
from daemon.core.proposal.candidates import rank
from daemon.core.proposal.document import ProposedChannel, write_document
from daemon.core.proposal.recipes import RECIPES, adapt, schema_of
from daemon.core.proposal.values import CatalogTable, Proposal
from daemon.marketplaces import registry
from daemon.settings import database_address
from daemon.settings.example import example
from daemon.store import catalogue
from daemon.store.connecting import ConnectOptions
from daemon.store.inspect import Inspector
from daemon.store.inspect_connecting import Unreachable, inspecting

_LIMIT: Final = timedelta(seconds=10)
_HEAD: Final = (
    "Stockrelay: all settings, as `stockrelay init` proposes them for the database {database}. Read the tables to "
    "watch and the listings, fill in what says change-me, and run `stockrelay migrate`; `stockrelay check` then says "
    "what is still missing."
)


@dataclass(frozen=True, slots=True)
class Survey:
    """A database: as whom it was looked at, its tables, and the proposals, the likeliest first."""

    database: str
    role: str
    tables: tuple[CatalogTable, ...]
    proposals: tuple[Proposal, ...]
    can_migrate: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """A listing and its first rows, or why it does not work."""

    listing: str
    rows: tuple[Mapping[str, str | None], ...] = ()
    fault: str | None = None


def marketplaces() -> dict[str, str]:
    """The marketplaces' titles, by name."""
    return {spec.name: spec.titles["en"] for spec in registry.MARKETPLACES}


def usual_marketplaces() -> list[str]:
    """The marketplaces that are on in the example."""
    lines = example().decode().splitlines()
    return [name for name in marketplaces() if f"[channels.{name}]" in lines]


async def survey(dsn: str) -> Survey:
    """Look at a database. Raises StockrelayError."""
    async with _inspecting(dsn) as inspector:
        server = await inspector.server()
        tables = await catalogue.tables(inspector)
        proposals: list[Proposal] = []
        for erp in RECIPES:
            text = files("daemon").joinpath("recipes", f"{erp.lower()}.toml").read_text("utf-8")
            if (schema := schema_of(text, tables)) is not None:
                found = await catalogue.choices(inspector, erp, schema)
                proposals += [adapt(erp, text, schema, choice, tables) for choice in found]
        can_migrate = await catalogue.can_migrate(inspector)
    ranked = proposals or rank(tables)
    return Survey(server.database, server.role, tuple(tables), tuple(ranked), can_migrate)


@asynccontextmanager
async def _inspecting(dsn: str) -> AsyncIterator[Inspector]:
    options = ConnectOptions(database_address.usable_address(dsn), _LIMIT)
    try:
        async with inspecting(options, _LIMIT) as inspector:
            yield inspector
    except Unreachable as error:
        raise Unreachable(str(error), error.advice.format(key="the database's address")) from error


def identifiers(proposal: Proposal, marketplace: str) -> dict[str, str | None]:
    """The expression for each of the marketplace's names of a SKU; None where no column looks like it."""
    columns = next(spec.identifier_columns for spec in registry.MARKETPLACES if spec.name == marketplace)
    return proposal.identifiers(columns, marketplace)


async def try_listings(
    dsn: str, proposal: Proposal, identifiers_of: Mapping[str, dict[str, str | None]]
) -> dict[str, Tried]:
    """Run each marketplace's listing once. Raises StockrelayError where the database does not answer."""
    tried: dict[str, Tried] = {}
    async with _inspecting(dsn) as inspector:
        for name, its_identifiers in identifiers_of.items():
            listing = proposal.listing_for(its_identifiers)
            missing = ", ".join(column for column, written in its_identifiers.items() if written is None)
            fault = f"no column looks like {missing}: write one in place of NULL" if missing else None
            try:
                tried[name] = Tried(listing, tuple(await catalogue.sample(inspector, listing)), fault)
            except StoreRefused as error:
                tried[name] = Tried(listing, (), str(error))
    return tried


def credentials(marketplace: str) -> list[str]:
    """The keys of a channel that the operator has to fill in."""
    return [f"channels.{marketplace}.{key}" for key in registry.sections()[marketplace].REQUIRED]


def configuration(
    found: Survey, proposal: Proposal, dsn: str, tried: Mapping[str, Tried], notes: Sequence[str]
) -> str:
    """The file that says it."""
    channels = {
        name: ProposedChannel(each.listing, (*proposal.notes, *notes), each.fault, _without_default(name))
        for name, each in tried.items()
    }
    return write_document(
        example().decode(),
        _HEAD.format(database=found.database),
        database_address.without_password(dsn),
        proposal.watches,
        proposal.compared_only,
        channels,
    )


def _without_default(marketplace: str) -> frozenset[str]:
    section = registry.sections()[marketplace]
    return frozenset(
        name
        for name, field in section.model_fields.items()
        if field.default in (None, ())
        or (isinstance(field.default, SecretStr) and name not in section.REQUIRED)
    )
