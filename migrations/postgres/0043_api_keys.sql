-- API keys: long-lived credentials of a user for programs.
CREATE TABLE api_keys (
    id           UUID        NOT NULL CONSTRAINT api_keys_pkey PRIMARY KEY,
    user_id      UUID        NOT NULL CONSTRAINT api_keys_user_fkey REFERENCES users (id),
    name         TEXT        NOT NULL,
    -- SHA-256 of the secret. A secret is 256 random bits, so a plain hash is enough.
    secret_hash  BYTEA       NOT NULL
                 CONSTRAINT api_keys_hash_check CHECK (octet_length(secret_hash) = 32),
    -- Names of scopes with a space between them (RFC 6749, section 3.3).
    scopes       TEXT        NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL,
    -- Written at most once a minute.
    last_used_at TIMESTAMPTZ
);

-- Pages of the keys of a user, newest first.
CREATE INDEX api_keys_user_idx ON api_keys (user_id, id);
-- For the cleanup.
CREATE INDEX api_keys_expires_idx ON api_keys (expires_at);
