-- The words of roles are those of the code, so that a new role needs no change of the schema.
-- The service reads an unknown word as the least role.

-- SQLite cannot drop a constraint. A column goes with its own check, so a copy takes its place.
ALTER TABLE users ADD COLUMN unchecked_role TEXT NOT NULL DEFAULT 'user';
UPDATE users SET unchecked_role = role;
ALTER TABLE users DROP COLUMN role;
ALTER TABLE users RENAME COLUMN unchecked_role TO role;
