-- Erased users, as other tables' inserts see them.
--
-- On Postgres this file makes a function that locks. SQLite has one writer at a time:
-- a transaction that holds the write lock reads `users.erased_at` and knows that it
-- stays true until the commit. Nothing is to be made here.
SELECT 1;
