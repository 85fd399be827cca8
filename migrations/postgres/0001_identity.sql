-- Identity: users and their refresh tokens.

-- One row a user, for ever: other tables point here, and an id that was once in a
-- ledger must stay resolvable. Erasing a user blanks what is personal and keeps
-- the row as a tombstone.
CREATE TABLE users (
    id            UUID        NOT NULL,
    -- Normalised by the service: trimmed, lower case. NULLs do not collide, so any
    -- number of erased users fit under the unique constraint.
    email         TEXT,
    name          TEXT,
    -- Argon2id in the PHC string format, parameters and salt included.
    password_hash TEXT,
    role          TEXT        NOT NULL,
    -- Counts the changes of what clients see; the ETag of the user.
    version       BIGINT      NOT NULL DEFAULT 1,
    created_at    TIMESTAMPTZ NOT NULL,
    updated_at    TIMESTAMPTZ NOT NULL,
    erased_at     TIMESTAMPTZ,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    -- Registration relies on this name to tell a taken address from a defect.
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_role_check CHECK (role IN ('user', 'admin')),
    -- All of a living user's data is there, none of an erased one's.
    CONSTRAINT users_erased_check CHECK (
        CASE WHEN erased_at IS NULL
             THEN email IS NOT NULL AND name IS NOT NULL AND password_hash IS NOT NULL
             ELSE email IS NULL AND name IS NULL AND password_hash IS NULL
        END
    )
);

-- One family a login. Rotation adds tokens to it; reuse of an old one, a logout or
-- a new password revokes all of it at once. Writers lock the family before its
-- tokens, so that two of them cannot wait for each other.
CREATE TABLE refresh_families (
    id         UUID        NOT NULL,
    user_id    UUID        NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    -- When its youngest token expires; the cleanup removes it then.
    expires_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ,
    CONSTRAINT refresh_families_pkey PRIMARY KEY (id),
    CONSTRAINT refresh_families_user_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);

CREATE INDEX refresh_families_user_idx ON refresh_families (user_id);
CREATE INDEX refresh_families_expires_idx ON refresh_families (expires_at);

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token. Tokens are 256 random bits, so a plain hash is enough:
    -- there is nothing to guess, and a stolen copy of this table opens nothing.
    token_hash BYTEA       NOT NULL,
    family_id  UUID        NOT NULL,
    issued_at  TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    -- When a successor replaced it. A rotated token that comes again is either a
    -- client's race (within the grace) or a theft (later).
    rotated_at TIMESTAMPTZ,
    CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash),
    CONSTRAINT refresh_tokens_family_fkey FOREIGN KEY (family_id)
        REFERENCES refresh_families (id) ON DELETE CASCADE,
    CONSTRAINT refresh_tokens_hash_check CHECK (octet_length(token_hash) = 32)
);

-- For the cascade.
CREATE INDEX refresh_tokens_family_idx ON refresh_tokens (family_id);
-- For the cleanup.
CREATE INDEX refresh_tokens_expires_idx ON refresh_tokens (expires_at);
