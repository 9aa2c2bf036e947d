"""The roles of one database: ours as deploy/roles.sql makes them, and the ERP's."""

from dataclasses import dataclass
from pathlib import Path

from daemon.store.migrate import migrate
from tests.store.place import Place

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"
WATCHES = [("shop.goods", "sku"), ("shop.parts", "sku")]


@dataclass(frozen=True, slots=True)
class Roles:
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


def make_roles(empty: Place) -> Roles:
    """An ERP with an owner and a clerk; none of them, nor of ours, is a superuser. Ours are made by the script."""
    roles = Roles(empty, *(f"{empty.name}_{role}" for role in ("Owner", "daemon", "erp", "clerk")))
    empty.server.run_sql(
        f"""
        CREATE ROLE "{roles.erp}" LOGIN; CREATE ROLE "{roles.clerk}" LOGIN;
        CREATE TABLE shop.parts (sku text) PARTITION BY LIST (sku);
        CREATE TABLE shop.parts_1 PARTITION OF shop.parts DEFAULT;
        ALTER SCHEMA shop OWNER TO "{roles.erp}"; ALTER TABLE shop.goods OWNER TO "{roles.erp}";
        ALTER TABLE shop.parts OWNER TO "{roles.erp}"; ALTER TABLE shop.parts_1 OWNER TO "{roles.erp}";
        GRANT USAGE ON SCHEMA shop TO "{roles.clerk}";
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON shop.goods, shop.parts TO "{roles.clerk}";
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        """,
        empty.name,
    )
    return roles


async def ready(roles: Roles, *, is_member: bool = True) -> list[str]:
    """Run the script, migrate as the owner, run the script again."""
    assert "stockrelay migrate" in roles.grant(is_member=is_member)
    lines = await migrate(roles.place.options(roles.owner), WATCHES, has_doorbell=True)
    assert "have their rights" in roles.grant(is_member=is_member)
    return lines
