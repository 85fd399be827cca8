-- Erased users, as other tables' inserts see them.
--
-- An insert for a user must not slip in beside the erasure of that user: it would
-- stay behind for ever. Both take one lock, which lasts until their transactions
-- end: the erasure alone, any number of inserts together. It is an advisory lock and
-- no row lock, because a row lock writes to the row, and this one is taken by every
-- transfer.

-- The number of a user's lock.
CREATE FUNCTION user_lock(locked UUID) RETURNS BIGINT
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended('user ' || locked::text, 0);

-- Whether a user is erased; the answer holds until the transaction ends. Call it in
-- the transaction that inserts something for the user, before it locks anything else.
-- Rows of users are never removed, so a user without a row was never one.
CREATE FUNCTION user_is_erased(checked UUID) RETURNS BOOLEAN
LANGUAGE plpgsql VOLATILE STRICT
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(user_lock(checked));
    -- A statement of its own: it sees an erasure that the lock has waited for.
    RETURN EXISTS (SELECT FROM users WHERE id = checked AND erased_at IS NOT NULL);
END
$$;
