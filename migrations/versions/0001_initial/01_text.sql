-- Text in another encoding than UTF-8, in which the daemon reads and writes.

-- Whether the daemon can read this text, and name it so that the database finds it again.
CREATE FUNCTION stockrelay.is_readable(value text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(convert_to(value, 'UTF8'), 'UTF8') = value;
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN false;
END $$;

-- Which of these characters, given in UTF-8, the database's encoding has.
CREATE FUNCTION stockrelay.can_hold(characters bytea[]) RETURNS boolean[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held boolean[] := '{}';
    each bytea;
BEGIN
    FOREACH each IN ARRAY characters LOOP
        BEGIN
            PERFORM convert_from(each, 'UTF8');
            held := held || true;
        EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
            held := held || false;
        END;
    END LOOP;
    RETURN held;
END $$;
