-- Sessions, as their users see them: a family of refresh tokens is one session.
--
-- All columns can be NULL, because the release before this one adds families without
-- them, and families that exist keep what was not recorded.
ALTER TABLE refresh_families
    -- The text of User-Agent at the last use, which the client chose.
    ADD COLUMN device         TEXT,
    -- The network of the client at the last use. The whole address is not kept.
    ADD COLUMN address_prefix TEXT,
    ADD COLUMN last_used_at   TIMESTAMPTZ;
