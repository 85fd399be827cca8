-- The ledger: accounts, transfers between them, and idempotency keys.
-- The Postgres file of the same name says the same in that server's words.
--
-- Money is an integer number of minor units (cents). There is no other way to
-- change a balance than a transfer, which takes from one account what it gives
-- to another: the balances of a currency always sum to zero.
--
-- Ids are the 16 bytes of a UUIDv7, which compare in the order of time; times are
-- microseconds since the epoch. STRICT makes SQLite hold to the column types.

CREATE TABLE accounts (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- Who may see and spend. No foreign key to the users: an account outlives the
    -- personal data of its owner, and the slices meet only where they are wired.
    owner_id    BLOB,
    -- The other side of every deposit: one account a currency, owned by nobody.
    is_system   INTEGER NOT NULL DEFAULT 0 CHECK (is_system IN (0, 1)),
    currency    TEXT    NOT NULL CHECK (currency GLOB '[A-Z][A-Z][A-Z]'),
    name        TEXT    NOT NULL,
    balance     INTEGER NOT NULL DEFAULT 0,
    -- Grows by one with every change: the entity tag of the account.
    version     INTEGER NOT NULL DEFAULT 1,
    created_at  INTEGER NOT NULL,
    -- Set when the owner is erased; nothing is transferred to a closed account.
    closed_at   INTEGER,
    CHECK ((owner_id IS NULL) = is_system),
    -- The last line of defence: the code refuses first. What is paid into all
    -- accounts is missing in the system's, so that one is zero or below.
    CHECK (CASE WHEN is_system THEN balance <= 0 ELSE balance >= 0 END)
) STRICT;

-- Pages of an owner's accounts, newest first.
CREATE INDEX accounts_owner_index ON accounts (owner_id, id);
-- At most one system account a currency.
CREATE UNIQUE INDEX accounts_system_index ON accounts (currency) WHERE is_system;

CREATE TABLE transfers (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    from_account BLOB    NOT NULL REFERENCES accounts (id),
    to_account   BLOB    NOT NULL REFERENCES accounts (id),
    -- The accounts' owners, copied: an account never changes hands, and so a
    -- user's transfers are two short index scans instead of a join over all of
    -- the user's accounts. Null where the system account pays.
    from_owner   BLOB,
    to_owner     BLOB    NOT NULL,
    amount       INTEGER NOT NULL CHECK (amount > 0),
    currency     TEXT    NOT NULL,
    reference    TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    CHECK (from_account <> to_account)
) STRICT;

CREATE INDEX transfers_from_owner_index ON transfers (from_owner, id);
CREATE INDEX transfers_to_owner_index ON transfers (to_owner, id);

-- What a request with an Idempotency-Key was answered. The row is written in the
-- transaction of its transfer, so both exist or neither does. There is no state
-- "running": that is a set in the one process that has the file, and dies with it.
CREATE TABLE idempotency_keys (
    user_id     BLOB    NOT NULL,
    key         TEXT    NOT NULL,
    -- SHA-256 of what was asked: the same key with another request is an error.
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    -- The answer: the transfer that was made, or the word for why none was.
    -- Transfers never change, so the same body can be written from the row again.
    transfer_id BLOB    REFERENCES transfers (id),
    refusal     TEXT,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (user_id, key),
    CHECK ((transfer_id IS NULL) <> (refusal IS NULL))
) STRICT;

-- The worker that removes what has expired.
CREATE INDEX idempotency_keys_expires_index ON idempotency_keys (expires_at);
