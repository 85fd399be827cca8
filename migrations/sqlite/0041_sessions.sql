-- Sessions, as their users see them: a family of refresh tokens is one session.
--
-- All columns can be NULL, because the release before this one adds families without
-- them, and families that exist keep what was not recorded.

-- The text of User-Agent at the last use, which the client chose.
ALTER TABLE refresh_families ADD COLUMN device TEXT;
-- The network of the client at the last use. The whole address is not kept.
ALTER TABLE refresh_families ADD COLUMN address_prefix TEXT;
ALTER TABLE refresh_families ADD COLUMN last_used_at INTEGER;
