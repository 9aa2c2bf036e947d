"""A stranger's traps: everything that a session could be made to call instead of what it means.

A role that may create things in a schema of another's search path can offer functions and operators that fit the call
better than the server's own. Each trap writes down as whom it ran and does what the real one does, so that nothing else
fails; `caught` tells who fell into one.
"""

import re
from pathlib import Path
from typing import Final

from tests.store.place import Connection

_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = (
    *sorted((_ROOT / "migrations" / "versions").rglob("*.sql")),
    *sorted((_ROOT / "daemon" / "store" / "sql").glob("*.sql")),
)

_LOOT: Final = """
CREATE SCHEMA mallory;
GRANT USAGE ON SCHEMA mallory TO PUBLIC;
CREATE TABLE mallory.loot (who text, what text);
GRANT SELECT, INSERT ON mallory.loot TO PUBLIC;
CREATE FUNCTION mallory.note(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO mallory.loot VALUES (current_user, what);
END $$;
"""

# Functions and operators of the server's, with the very signatures, for a path that has public in front.
_SHADOWS: Final = """
DO $do$
DECLARE
    it record;
    body text;
BEGIN
    FOR it IN
        SELECT p.oid::regprocedure::text AS signature, p.proname, p.proretset,
               pg_get_function_result(p.oid) AS result, pg_get_function_identity_arguments(p.oid) AS arguments,
               (SELECT string_agg('$' || n, ', ' ORDER BY n) FROM generate_series(1, p.pronargs) AS n) AS given
        FROM pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.proname = ANY (@names@)
        AND p.provariadic = 0 AND p.proargmodes IS NULL
        AND NOT EXISTS (SELECT FROM unnest(p.proargtypes || p.prorettype) AS a (id) JOIN pg_type AS t ON t.oid = a.id
                        WHERE t.typtype = 'p' AND t.typname <> 'void')
    LOOP
        body := format('pg_catalog.%I(%s)', it.proname, it.given);
        body := CASE WHEN it.proretset THEN 'RETURN QUERY SELECT * FROM ' || body
                     WHEN it.result = 'void' THEN 'PERFORM ' || body
                     ELSE 'RETURN ' || body END;
        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', it.proname, it.arguments,
                       it.result, format('BEGIN PERFORM mallory.note(%L); %s; END', it.signature, body));
    END LOOP;
    FOR it IN
        SELECT o.oid::regoperator::text AS signature, o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r,
               o.oprresult::regtype AS result, row_number() OVER () AS number
        FROM pg_operator AS o
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
        AND NOT EXISTS (SELECT FROM pg_type AS t
                        WHERE t.oid IN (o.oprleft, o.oprright, o.oprresult) AND t.typtype = 'p')
        AND o.oprleft = ANY (@types@) AND o.oprright = ANY (@types@)
    LOOP
        EXECUTE format('CREATE FUNCTION public.trap_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', it.number,
                       it.l, it.r, it.result,
                       format('BEGIN PERFORM mallory.note(%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END',
                                         it.signature, it.oprname));
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.trap_%s)',
                       it.oprname, it.l, it.r, it.number);
    END LOOP;
END $do$;
"""
_TYPES: Final = (
    "'{text, name, bpchar, int2, int4, int8, float8, oid, bool, timestamptz, interval, xid8}'::regtype[]"
)

# What fits better than the server's own wherever public stands in the path: the server's take any type.
_BETTER: Final = (
    ("format(text, text)", "text", "format($1, $2)"),
    ("format(text, text, text)", "text", "format($1, $2, $3)"),
    ("format(text, name)", "text", "format($1, $2)"),
    ("format(text, oid)", "text", "format($1, $2)"),
    ("format(text, regclass, text)", "text", "format($1, $2, $3)"),
    ("format(text, text, regclass)", "text", "format($1, $2, $3)"),
    ("format(text, text, text, regclass, text, text)", "text", "format($1, $2, $3, $4, $5, $6)"),
    ("cardinality(text[])", "integer", "cardinality($1)"),
    ("cardinality(oid[])", "integer", "cardinality($1)"),
    ("cardinality(xid8[])", "integer", "cardinality($1)"),
    ("array_position(text[], text)", "integer", "array_position($1, $2)"),
    ("jsonb_build_object(text, text)", "jsonb", "jsonb_build_object($1, $2)"),
    ("to_jsonb(text)", "jsonb", "to_jsonb($1)"),
    ("concat(text)", "text", "concat($1)"),
    ("pg_typeof(text)", "regtype", "pg_typeof($1)"),
    ("unnest(text[])", "SETOF text", "unnest($1)"),
    ("unnest(oid[])", "SETOF oid", "unnest($1)"),
    ("unnest(boolean[])", "SETOF boolean", "unnest($1)"),
)
_MORE: Final = """
CREATE FUNCTION public.tally(bigint, text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mallory.note('count(text)');
    RETURN coalesce($1, 0) OPERATOR(pg_catalog.+) 1;
END $$;
CREATE AGGREGATE public.count(text) (SFUNC = public.tally, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION public.equals(text[], text[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mallory.note('=(text[],text[])');
    RETURN $1 OPERATOR(pg_catalog.=) $2;
END $$;
CREATE OPERATOR public.= (LEFTARG = text[], RIGHTARG = text[], FUNCTION = public.equals);
CREATE FUNCTION public.prefixed(text, bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mallory.note('||(text,bigint)');
    RETURN $1 OPERATOR(pg_catalog.||) $2;
END $$;
CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = public.prefixed);
CREATE FUNCTION public.prefixed(text, oid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mallory.note('||(text,oid)');
    RETURN $1 OPERATOR(pg_catalog.||) $2;
END $$;
CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = oid, FUNCTION = public.prefixed);
"""


def called_names() -> list[str]:
    """What our SQL calls, as far as its text shows."""
    return sorted(
        {name for file in _SOURCES for name in re.findall(r"\b([a-z_]+)\(", file.read_text("utf-8"))}
    )


def trap_sql() -> str:
    """Everything that sets the traps, as one script for a role that may create things in `public`."""
    names = "'{" + ", ".join(called_names()) + "}'::name[]"
    better = [
        f"CREATE FUNCTION public.{signature} RETURNS {result} LANGUAGE plpgsql AS "
        f"$$BEGIN PERFORM mallory.note('{signature}'); "
        + ("RETURN QUERY SELECT * FROM " if result.startswith("SETOF") else "RETURN ")
        + f"pg_catalog.{body}; END$$;"
        for signature, result, body in _BETTER
    ]
    shadows = _SHADOWS.replace("@names@", names).replace("@types@", _TYPES)
    return _LOOT + shadows + "\n".join(better) + _MORE


async def caught(sql: Connection, *roles: str) -> list[str]:
    """What ran as one of these roles, and was not theirs; taken away."""
    rows = await sql.fetch("DELETE FROM mallory.loot WHERE who = ANY ($1::text[]) RETURNING who, what", roles)
    return sorted({f"{row['what']} as {row['who']}" for row in rows})
