-- Identity: users and their refresh tokens. Ids are 16-byte BLOBs, times integer
-- microseconds since the epoch.

-- One row a user, for ever: other tables point here, and an id that was once in a
-- ledger must stay resolvable. Erasing a user blanks what is personal and keeps
-- the row as a tombstone.
CREATE TABLE users (
    id            BLOB    NOT NULL PRIMARY KEY,
    -- Normalised by the service: trimmed, lower case. NULLs do not collide, so any
    -- number of erased users fit under the unique constraint. Registration tells a
    -- taken address from a defect by this column's name.
    email         TEXT    UNIQUE,
    name          TEXT,
    -- Argon2id in the PHC string format, parameters and salt included.
    password_hash TEXT,
    role          TEXT    NOT NULL CHECK (role IN ('user', 'admin')),
    -- Counts the changes of what clients see; the ETag of the user.
    version       INTEGER NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    erased_at     INTEGER,
    -- All of a living user's data is there, none of an erased one's.
    CHECK (
        CASE WHEN erased_at IS NULL
             THEN email IS NOT NULL AND name IS NOT NULL AND password_hash IS NOT NULL
             ELSE email IS NULL AND name IS NULL AND password_hash IS NULL
        END
    )
) STRICT;

-- One family a login. Rotation adds tokens to it; reuse of an old one, a logout or
-- a new password revokes all of it at once.
CREATE TABLE refresh_families (
    id         BLOB    NOT NULL PRIMARY KEY,
    user_id    BLOB    NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    -- When its youngest token expires; the cleanup removes it then.
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE INDEX refresh_families_user_idx ON refresh_families (user_id);
CREATE INDEX refresh_families_expires_idx ON refresh_families (expires_at);

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token. Tokens are 256 random bits, so a plain hash is enough:
    -- there is nothing to guess, and a stolen copy of this table opens nothing.
    token_hash BLOB    NOT NULL PRIMARY KEY CHECK (length(token_hash) = 32),
    family_id  BLOB    NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- When a successor replaced it. A rotated token that comes again is either a
    -- client's race (within the grace) or a theft (later).
    rotated_at INTEGER
) STRICT;

-- For the cascade.
CREATE INDEX refresh_tokens_family_idx ON refresh_tokens (family_id);
-- For the cleanup.
CREATE INDEX refresh_tokens_expires_idx ON refresh_tokens (expires_at);
