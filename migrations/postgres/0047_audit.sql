-- The audit trail: events that concern credentials and rights, each chained to the
-- one before it by a hash.
--
-- Rows are only added. Triggers refuse every change and every removal, also for the
-- owner of the table, except the removal of rows that the retention has released.

CREATE TABLE audit_events (
    -- Position in the chain, without gaps.
    sequence    BIGINT      NOT NULL CONSTRAINT audit_events_pkey PRIMARY KEY,
    -- UUIDv7, the position in pages.
    id          UUID        NOT NULL CONSTRAINT audit_events_id_key UNIQUE,
    occurred_at TIMESTAMPTZ NOT NULL,
    action      TEXT        NOT NULL,
    outcome     TEXT        NOT NULL,
    -- Without foreign keys: the trail outlives sessions, keys and personal data.
    actor_kind  TEXT        NOT NULL,
    actor_id    UUID,
    -- API key of the actor.
    credential_id UUID,
    -- The user whom the event concerns.
    subject_id  UUID,
    -- Session or API key that the event concerns.
    object_id   UUID,
    network     TEXT,
    request_id  TEXT,
    detail      TEXT,
    -- SHA-256 of the hash of the row before it and of the columns above.
    hash        BYTEA       NOT NULL
                CONSTRAINT audit_events_hash_check CHECK (octet_length(hash) = 32)
);

CREATE INDEX audit_events_subject_idx ON audit_events (subject_id, id);
CREATE INDEX audit_events_actor_idx ON audit_events (actor_id, id);

-- The ends of the chain. One row, whose lock serialises additions.
CREATE TABLE audit_head (
    singleton       BOOLEAN NOT NULL DEFAULT true CONSTRAINT audit_head_pkey PRIMARY KEY
                    CONSTRAINT audit_head_singleton_check CHECK (singleton),
    sequence        BIGINT  NOT NULL,
    hash            BYTEA   NOT NULL,
    -- The last row that the retention released, and its hash, with which the chain
    -- goes on.
    expired_through BIGINT  NOT NULL,
    expired_hash    BYTEA   NOT NULL
);

INSERT INTO audit_head (sequence, hash, expired_through, expired_hash)
VALUES (0, decode(repeat('00', 32), 'hex'), 0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION audit_events_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.sequence <= (SELECT expired_through FROM audit_head) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_events accepts additions only' USING ERRCODE = '42501';
END
$$;

CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_append_only();
CREATE TRIGGER audit_events_no_truncate BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_append_only();

CREATE FUNCTION audit_head_forward_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.sequence >= OLD.sequence AND NEW.expired_through = OLD.expired_through THEN
            RETURN NEW;
        END IF;
        -- The retention releases no row that is younger than 30 days.
        IF NEW.sequence = OLD.sequence AND NEW.expired_through BETWEEN OLD.expired_through AND OLD.sequence
           AND NOT EXISTS (SELECT FROM audit_events
                           WHERE sequence <= NEW.expired_through
                             AND occurred_at > now() - interval '30 days') THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_head moves forward only' USING ERRCODE = '42501';
END
$$;

CREATE TRIGGER audit_head_forward_only BEFORE INSERT OR UPDATE OR DELETE ON audit_head
    FOR EACH ROW EXECUTE FUNCTION audit_head_forward_only();
CREATE TRIGGER audit_head_no_truncate BEFORE TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION audit_head_forward_only();
