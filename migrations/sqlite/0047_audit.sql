-- The audit trail: events that concern credentials and rights, each chained to the
-- one before it by a hash.
--
-- Rows are only added. Triggers refuse every change and every removal, except the
-- removal of rows that the retention has released.

CREATE TABLE audit_events (
    -- Position in the chain, without gaps.
    sequence    INTEGER NOT NULL PRIMARY KEY,
    -- UUIDv7, the position in pages.
    id          BLOB    NOT NULL UNIQUE,
    occurred_at INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    -- Without foreign keys: the trail outlives sessions, keys and personal data.
    actor_kind  TEXT    NOT NULL,
    actor_id    BLOB,
    -- API key of the actor.
    credential_id BLOB,
    -- The user whom the event concerns.
    subject_id  BLOB,
    -- Session or API key that the event concerns.
    object_id   BLOB,
    network     TEXT,
    request_id  TEXT,
    detail      TEXT,
    -- SHA-256 of the hash of the row before it and of the columns above.
    hash        BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX audit_events_subject_idx ON audit_events (subject_id, id);
CREATE INDEX audit_events_actor_idx ON audit_events (actor_id, id);

-- The ends of the chain, in one row.
CREATE TABLE audit_head (
    singleton       INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    sequence        INTEGER NOT NULL,
    hash            BLOB    NOT NULL,
    -- The last row that the retention released, and its hash, with which the chain
    -- goes on.
    expired_through INTEGER NOT NULL,
    expired_hash    BLOB    NOT NULL
) STRICT;

INSERT INTO audit_head (sequence, hash, expired_through, expired_hash)
VALUES (0, zeroblob(32), 0, zeroblob(32));

CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events accepts additions only');
END;

CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events
WHEN OLD.sequence > (SELECT expired_through FROM audit_head)
BEGIN
    SELECT RAISE(ABORT, 'audit_events accepts additions only');
END;

-- The retention releases no row that is younger than 30 days.
CREATE TRIGGER audit_head_forward_only BEFORE UPDATE ON audit_head
WHEN NEW.sequence < OLD.sequence
  OR NEW.expired_through < OLD.expired_through
  OR NEW.expired_through > NEW.sequence
  OR (NEW.expired_through > OLD.expired_through AND EXISTS (
        SELECT 1 FROM audit_events
        WHERE sequence <= NEW.expired_through
          AND occurred_at > (unixepoch('now') - 30 * 86400) * 1000000))
BEGIN
    SELECT RAISE(ABORT, 'audit_head moves forward only');
END;

CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head
BEGIN
    SELECT RAISE(ABORT, 'audit_head moves forward only');
END;
