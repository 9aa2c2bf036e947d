"""The roles of one database: ours as deploy/roles.sql makes them, and the ERP's."""

from dataclasses import dataclass
from pathlib import Path

from daemon.store.migrate import migrate
from tests.store.place import Place

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"
WATCHES = [("shop.goods", "sku"), ("shop.parts", "sku")]


@dataclass(frozen=True, slots=True)
class Cast:
    """The roles of one database."""

    place: Place
    owner: str
    daemon: str
    erp: str
    clerk: str

    def grant(self, *, is_member: bool) -> str:
        """Run the script; return what it says."""
        settings = {
            "owner": self.owner,
            "daemon": self.daemon,
            "schemas": "shop",
            "watched": "shop.goods, shop.parts, shop.parts_1",
            "listed": "shop.goods",
        } | ({"table_owner": self.erp} if is_member else {})
        lines = [f"\\set {name} '{value}'" for name, value in settings.items()]
        return self.place.server.run_sql("\n".join([*lines, ROLES.read_text("utf-8")]), self.place.name)


def make_cast(empty: Place) -> Cast:
    """An ERP with an owner and a clerk; none of them, nor of ours, is a superuser. Ours are made by the script."""
    cast = Cast(empty, *(f"{empty.name}_{role}" for role in ("Owner", "daemon", "erp", "clerk")))
    empty.server.run_sql(
        f"""
        CREATE ROLE "{cast.erp}" LOGIN; CREATE ROLE "{cast.clerk}" LOGIN;
        CREATE TABLE shop.parts (sku text) PARTITION BY LIST (sku);
        CREATE TABLE shop.parts_1 PARTITION OF shop.parts DEFAULT;
        ALTER SCHEMA shop OWNER TO "{cast.erp}"; ALTER TABLE shop.goods OWNER TO "{cast.erp}";
        ALTER TABLE shop.parts OWNER TO "{cast.erp}"; ALTER TABLE shop.parts_1 OWNER TO "{cast.erp}";
        GRANT USAGE ON SCHEMA shop TO "{cast.clerk}";
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON shop.goods, shop.parts TO "{cast.clerk}";
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        """,
        empty.name,
    )
    return cast


async def ready(cast: Cast, *, is_member: bool = True) -> list[str]:
    """Run the script, migrate as the owner, run the script again."""
    assert "stockrelay migrate" in cast.grant(is_member=is_member)
    lines = await migrate(cast.place.options(cast.owner), WATCHES, has_doorbell=True)
    assert "have their rights" in cast.grant(is_member=is_member)
    return lines
