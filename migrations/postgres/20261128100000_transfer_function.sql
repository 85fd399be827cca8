-- One transfer in one statement.
--
-- The service sends a single SELECT from this function, outside of any transaction,
-- so that claim, locks, balances, transfer and stored answer cost one round trip and
-- are one transaction, whose row locks never wait for the network.
--
-- The rules are those of `domain::post` in the code, in the same order; a test
-- compares the two. READ COMMITTED: each statement below sees what was committed
-- before it began, and so what a lock has waited for.
--
-- A later version gets a new name or new parameters with defaults: during a rollout
-- the older release calls what it knows.
CREATE FUNCTION ledger_transfer(
    new_id         UUID,
    -- Who pays: an account and its owner. Both NULL for a deposit.
    source_id      UUID,
    source_owner   UUID,
    target_id      UUID,
    transferred    BIGINT,
    new_reference  TEXT,
    made_at        TIMESTAMPTZ,
    -- An account holds no more than this.
    balance_limit  BIGINT,
    -- The id of the currency's system account, should this deposit be its first.
    system_id      UUID,
    -- The idempotency key; all NULL without one.
    claim_user     UUID,
    claim_key      TEXT,
    claim_lock     BIGINT,
    claim_print    BYTEA,
    claim_expires  TIMESTAMPTZ,
    -- `made`, `refused`, `mismatch`, `in_progress` or `erased`.
    OUT outcome    TEXT,
    -- The answer is an earlier request's.
    OUT replayed   BOOLEAN,
    -- Why, when the outcome is `refused`.
    OUT refusal    TEXT,
    -- The transfer, when the outcome is `made`.
    OUT id         UUID,
    OUT from_account UUID,
    OUT to_account UUID,
    OUT amount     BIGINT,
    OUT currency   TEXT,
    OUT reference  TEXT,
    OUT created_at TIMESTAMPTZ
)
LANGUAGE plpgsql VOLATILE
AS $$
-- Names of the tables win; the function's own stand alone or on the left.
#variable_conflict use_column
DECLARE
    is_deposit CONSTANT BOOLEAN := source_id IS NULL;
    claimed BOOLEAN;
    stored RECORD;
    code TEXT;
    party accounts%ROWTYPE;
    -- All NULL where there is no such account.
    source accounts%ROWTYPE;
    target accounts%ROWTYPE;
BEGIN
    replayed := false;

    -- Users come before accounts, everywhere, so that nobody waits in a circle.
    IF user_is_erased(coalesce(claim_user, source_owner)) THEN
        outcome := 'erased';
        RETURN;
    END IF;

    IF claim_user IS NOT NULL THEN
        claimed := pg_try_advisory_xact_lock(claim_lock);
        -- Read after the lock, whether it was had or not: who holds it may be replaying
        -- as well, and then the answer is there already.
        SELECT k.fingerprint, k.transfer_id, k.refusal INTO stored
        FROM idempotency_keys k
        WHERE k.user_id = claim_user AND k.key = claim_key AND k.expires_at > made_at;
        IF FOUND THEN
            IF stored.fingerprint <> claim_print THEN
                outcome := 'mismatch';
                RETURN;
            END IF;
            replayed := true;
            IF stored.transfer_id IS NULL THEN
                outcome := 'refused';
                refusal := stored.refusal;
                RETURN;
            END IF;
            outcome := 'made';
            SELECT t.id, t.from_account, t.to_account, t.amount, t.currency, t.reference, t.created_at
            INTO id, from_account, to_account, amount, currency, reference, created_at
            FROM transfers t WHERE t.id = stored.transfer_id;
            RETURN;
        END IF;
        IF NOT claimed THEN
            outcome := 'in_progress';
            RETURN;
        END IF;
    END IF;

    IF is_deposit THEN
        SELECT a.currency INTO code FROM accounts a WHERE a.id = target_id;
        IF FOUND THEN
            SELECT a.id INTO source_id FROM accounts a WHERE a.is_system AND a.currency = code;
            IF NOT FOUND THEN
                -- Whoever comes second waits here for the first, and then finds its row.
                INSERT INTO accounts (id, is_system, currency, name, created_at)
                VALUES (system_id, true, code, 'system', made_at)
                ON CONFLICT (currency) WHERE is_system DO NOTHING;
                SELECT a.id INTO source_id FROM accounts a WHERE a.is_system AND a.currency = code;
            END IF;
        END IF;
    END IF;

    -- Rows are locked in the order in which they come out of the sort. References from
    -- other tables do not wait for this lock.
    FOR party IN
        SELECT a.* FROM accounts a WHERE a.id IN (source_id, target_id)
        ORDER BY a.id FOR NO KEY UPDATE
    LOOP
        IF party.id = source_id THEN
            source := party;
        END IF;
        IF party.id = target_id THEN
            target := party;
        END IF;
    END LOOP;

    refusal := CASE
        -- The system account is found through the target's currency.
        WHEN source.id IS NULL AND is_deposit THEN 'unknown_target'
        WHEN source.id IS NULL THEN 'unknown_source'
        -- Somebody else's account answers like one that does not exist.
        WHEN NOT is_deposit AND source.owner_id IS DISTINCT FROM source_owner THEN 'unknown_source'
        -- None, or the system's: nobody pays into that, only deposits move it.
        WHEN target.owner_id IS NULL THEN 'unknown_target'
        WHEN source.id = target.id THEN 'same_account'
        WHEN source.closed_at IS NOT NULL OR target.closed_at IS NOT NULL THEN 'account_closed'
        WHEN source.currency <> target.currency THEN 'currency_mismatch'
        -- The least BIGINT; a sum on this side cannot overflow.
        WHEN source.balance < (-9223372036854775808) + transferred THEN 'balance_limit_exceeded'
        WHEN NOT is_deposit AND source.balance < transferred THEN 'insufficient_funds'
        WHEN target.balance > balance_limit - transferred THEN 'balance_limit_exceeded'
    END;

    IF refusal IS NOT NULL THEN
        outcome := 'refused';
    ELSE
        outcome := 'made';
        id := new_id;
        from_account := source.id;
        to_account := target.id;
        amount := transferred;
        currency := source.currency;
        reference := new_reference;
        created_at := made_at;
        UPDATE accounts a SET
            version = a.version + 1,
            balance = a.balance + CASE a.id WHEN source.id THEN -transferred ELSE transferred END
        WHERE a.id IN (source.id, target.id);
        INSERT INTO transfers (id, from_account, to_account, from_owner, to_owner,
                               amount, currency, reference, created_at)
        VALUES (new_id, source.id, target.id, source.owner_id, target.owner_id,
                transferred, source.currency, new_reference, made_at);
        -- What else belongs to a transfer that was made (rows for events, say) is
        -- written here, in its transaction.
    END IF;

    IF claim_user IS NOT NULL THEN
        -- A refusal is final as well. Under the lock only a row that has expired can be
        -- in the way.
        INSERT INTO idempotency_keys
            (user_id, key, fingerprint, transfer_id, refusal, created_at, expires_at)
        VALUES (claim_user, claim_key, claim_print,
                CASE outcome WHEN 'made' THEN new_id END, refusal, made_at, claim_expires)
        ON CONFLICT (user_id, key) DO UPDATE SET
            fingerprint = EXCLUDED.fingerprint, transfer_id = EXCLUDED.transfer_id,
            refusal = EXCLUDED.refusal, created_at = EXCLUDED.created_at,
            expires_at = EXCLUDED.expires_at;
    END IF;
END
$$;
