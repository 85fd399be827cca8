-- The ledger: accounts, transfers between them, and idempotency keys.
--
-- Money is an integer number of minor units (cents). There is no other way to
-- change a balance than a transfer, which takes from one account what it gives
-- to another: the balances of a currency always sum to zero.

CREATE TABLE accounts (
    id          UUID        NOT NULL CONSTRAINT accounts_pkey PRIMARY KEY,
    -- Who may see and spend. No foreign key to the users: an account outlives the
    -- personal data of its owner, and the slices meet only where they are wired.
    owner_id    UUID,
    -- The other side of every deposit: one account a currency, owned by nobody.
    is_system   BOOLEAN     NOT NULL DEFAULT false,
    currency    TEXT        NOT NULL CONSTRAINT accounts_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    name        TEXT        NOT NULL,
    balance     BIGINT      NOT NULL DEFAULT 0,
    -- Grows by one with every change: the entity tag of the account.
    version     BIGINT      NOT NULL DEFAULT 1,
    created_at  TIMESTAMPTZ NOT NULL,
    -- Set when the owner is erased; nothing is transferred to a closed account.
    closed_at   TIMESTAMPTZ,
    CONSTRAINT accounts_owner_check CHECK ((owner_id IS NULL) = is_system),
    -- The last line of defence: the code refuses first. What is paid into all
    -- accounts is missing in the system's, so that one is zero or below.
    CONSTRAINT accounts_balance_check CHECK (
        CASE WHEN is_system THEN balance <= 0 ELSE balance >= 0 END
    )
);

-- Pages of an owner's accounts, newest first: ids are UUIDv7 and sort by time.
CREATE INDEX accounts_owner_index ON accounts (owner_id, id);
-- At most one system account a currency, however many processes make it at once.
CREATE UNIQUE INDEX accounts_system_index ON accounts (currency) WHERE is_system;

CREATE TABLE transfers (
    id           UUID        NOT NULL CONSTRAINT transfers_pkey PRIMARY KEY,
    from_account UUID        NOT NULL CONSTRAINT transfers_from_account_fkey REFERENCES accounts (id),
    to_account   UUID        NOT NULL CONSTRAINT transfers_to_account_fkey REFERENCES accounts (id),
    -- The accounts' owners, copied: an account never changes hands, and so a
    -- user's transfers are two short index scans instead of a join over all of
    -- the user's accounts. Null where the system account pays.
    from_owner   UUID,
    to_owner     UUID        NOT NULL,
    amount       BIGINT      NOT NULL CONSTRAINT transfers_amount_check CHECK (amount > 0),
    currency     TEXT        NOT NULL,
    reference    TEXT        NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    CONSTRAINT transfers_accounts_check CHECK (from_account <> to_account)
);

CREATE INDEX transfers_from_owner_index ON transfers (from_owner, id);
CREATE INDEX transfers_to_owner_index ON transfers (to_owner, id);

-- What a request with an Idempotency-Key was answered. The row is written in the
-- transaction of its transfer, so both exist or neither does. There is no state
-- "running": that is an advisory lock, which dies with the process that holds it.
CREATE TABLE idempotency_keys (
    user_id     UUID        NOT NULL,
    key         TEXT        NOT NULL,
    -- SHA-256 of what was asked: the same key with another request is an error.
    fingerprint BYTEA       NOT NULL CONSTRAINT idempotency_keys_fingerprint_check CHECK (octet_length(fingerprint) = 32),
    -- The answer: the transfer that was made, or the word for why none was.
    -- Transfers never change, so the same body can be written from the row again.
    transfer_id UUID        CONSTRAINT idempotency_keys_transfer_fkey REFERENCES transfers (id),
    refusal     TEXT,
    created_at  TIMESTAMPTZ NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key),
    CONSTRAINT idempotency_keys_answer_check CHECK ((transfer_id IS NULL) <> (refusal IS NULL))
);

-- The worker that removes what has expired.
CREATE INDEX idempotency_keys_expires_index ON idempotency_keys (expires_at);
