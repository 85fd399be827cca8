-- Access tokens that end before their time.
--
-- A token carries the epoch of its user from when it was signed, and is refused once
-- the user's is another one. A change of the password raises it. The release before
-- this one signs tokens without an epoch, which count as of epoch 0.
ALTER TABLE users ADD COLUMN token_epoch BIGINT NOT NULL DEFAULT 0;
