-- API keys: long-lived credentials of a user for programs.
CREATE TABLE api_keys (
    id           BLOB    NOT NULL PRIMARY KEY,
    user_id      BLOB    NOT NULL REFERENCES users (id),
    name         TEXT    NOT NULL,
    -- SHA-256 of the secret. A secret is 256 random bits, so a plain hash is enough.
    secret_hash  BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    -- Names of scopes with a space between them (RFC 6749, section 3.3).
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    -- Written at most once a minute.
    last_used_at INTEGER
) STRICT;

-- Pages of the keys of a user, newest first.
CREATE INDEX api_keys_user_idx ON api_keys (user_id, id);
-- For the cleanup.
CREATE INDEX api_keys_expires_idx ON api_keys (expires_at);
