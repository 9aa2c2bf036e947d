-- The exposure clock: for how long a marketplace could sell what the ERP did not have, or could not sell what it had.
-- docs/exposure.md has the definition.

-- A time that has ended, from `began_at` (a change's commit) on. Until `marked_at` the change was not read yet; it was due at
-- `due_at`, in flight from `sent_at`, held from `held_at` and parked from `parked_at`. `over`: units that the marketplace could
-- sell and the ERP did not have; `lost`: the other way round. If the number changed meanwhile, for the last time at
-- `counted_until`, they are the units from then on, and `counted_over` and `counted_lost` the unit-seconds before.
CREATE TYPE stockrelay.exposure_segment AS (
    sku            text,
    began_at       timestamptz,
    ended_at       timestamptz,
    marked_at      timestamptz,
    due_at         timestamptz,
    sent_at        timestamptz,
    held_at        timestamptz,
    parked_at      timestamptz,
    is_doubted     boolean,
    over           integer,
    lost           integer,
    counted_until  timestamptz,
    counted_over   float8,
    counted_lost   float8
);

-- Segments that have ended and are not added up yet, a row per statement. The daemon adds them up and deletes them in one
-- transaction. No index: it has few rows, and inserting must cost next to nothing.
CREATE TABLE stockrelay.exposure_log (
    channel   text NOT NULL,
    segments  stockrelay.exposure_segment[] NOT NULL
);
ALTER TABLE stockrelay.exposure_log REPLICA IDENTITY FULL;

-- Unit-seconds of a SKU and business day, by reason: the place in an array is the reason's (daemon/core/exposure.py).
CREATE TABLE stockrelay.exposure (
    day      date     NOT NULL,
    channel  text     NOT NULL,
    sku      text     NOT NULL,
    over     float8[] NOT NULL,
    lost     float8[] NOT NULL,
    PRIMARY KEY (day, channel, sku)
);

-- The same of all SKUs, so that the days can be shown without reading a row per SKU.
CREATE TABLE stockrelay.exposure_day (
    channel  text     NOT NULL,
    day      date     NOT NULL,
    over     float8[] NOT NULL,
    lost     float8[] NOT NULL,
    PRIMARY KEY (channel, day)
);

-- When a process was serving a channel (`alive`), and when the channel was paused or in trouble meanwhile. A row is extended
-- every few seconds, so that no row has to be ended: a time without a row that is `alive` is one without a daemon.
CREATE TABLE stockrelay.exposure_condition (
    channel   text        NOT NULL,
    what      text        NOT NULL CHECK (what IN ('alive', 'paused', 'trouble')),
    began_at  timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    PRIMARY KEY (channel, what, began_at)
) WITH (fillfactor = 50);

-- What may be sold as far as the ledger knows; NULL: that is not known.
CREATE FUNCTION stockrelay.listed_number(d stockrelay.ledger) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE d.listed_rows WHEN 0 THEN 0 WHEN 1 THEN d.listed_quantity END;

-- The units that the marketplace may sell and the ERP does not have. While something may still land, the marketplace may hold
-- the highest and the lowest of what was acknowledged and sent. Before the first acknowledgement what it holds is not known, and
-- only what was sent counts. What was claimed in shadow does not count.
CREATE FUNCTION stockrelay.units_over(d stockrelay.ledger) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE WHEN d.due_at = 'infinity' THEN 0
            ELSE greatest(greatest(d.acked_quantity, d.attempt_quantity, d.doubt_high) - stockrelay.listed_number(d), 0) END;

-- The units that the ERP has and the marketplace may not sell.
CREATE FUNCTION stockrelay.units_lost(d stockrelay.ledger) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE WHEN d.acked_quantity IS NULL OR d.due_at = 'infinity' THEN 0
            ELSE greatest(stockrelay.listed_number(d) - least(d.acked_quantity, d.attempt_quantity, d.doubt_low), 0) END;

-- A row's sum of unit-seconds with those until then added. (It is inlined, and costs marking next to nothing.)
CREATE FUNCTION stockrelay.counted(sum float8, units integer, d stockrelay.ledger, until timestamptz)
RETURNS float8 LANGUAGE sql IMMUTABLE
RETURN CASE WHEN units > 0
            THEN coalesce(sum, 0) + units * greatest(date_part('epoch', until - coalesce(d.counted_until, d.exposed_at)), 0)
            ELSE sum END;

-- The segment of a row that ends at `until`; NULL: its numbers agree.
CREATE FUNCTION stockrelay.segment(d stockrelay.ledger, until timestamptz)
RETURNS stockrelay.exposure_segment LANGUAGE sql IMMUTABLE
RETURN CASE WHEN d.exposed_at IS NOT NULL THEN
    ROW(d.sku, d.exposed_at, until, d.unacked_since, coalesce(nullif(d.due_at, 'infinity'), d.exposed_due), d.attempt_at,
        d.held_at, d.parked_at, d.doubt_at IS NOT NULL, stockrelay.units_over(d), stockrelay.units_lost(d),
        d.counted_until, d.counted_over, d.counted_lost)::stockrelay.exposure_segment END;

-- Whether there is something to count in a segment.
CREATE FUNCTION stockrelay.has_exposure(s stockrelay.exposure_segment) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN s.over > 0 OR s.lost > 0 OR coalesce(s.counted_over > 0, false) OR coalesce(s.counted_lost > 0, false);

-- Logs the row's segment until then, where there is something to count, and returns from when on the next one counts. Only for
-- ON CONFLICT DO UPDATE, which has locked the row before: a plain UPDATE computes its columns again for a row that another
-- transaction has changed meanwhile, and would log a segment twice.
CREATE FUNCTION stockrelay.log_exposure(d stockrelay.ledger, until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended CONSTANT stockrelay.exposure_segment := stockrelay.segment(d, greatest(until, d.exposed_at));
BEGIN
    IF stockrelay.has_exposure(ended) THEN
        INSERT INTO stockrelay.exposure_log (channel, segments) VALUES (d.channel, ARRAY[ended]);
    END IF;
    RETURN ended.ended_at;
END $$;

-- The sums of two arrays, place by place; a place that one of them lacks is 0.
CREATE FUNCTION stockrelay.added(a float8[], b float8[]) RETURNS float8[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT coalesce(u.x, 0) + coalesce(u.y, 0) FROM unnest(a, b) WITH ORDINALITY AS u (x, y, place) ORDER BY u.place);
