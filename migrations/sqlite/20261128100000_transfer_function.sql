-- One transfer in one statement.
--
-- On Postgres this file makes a function, so that a transfer costs one round trip.
-- SQLite runs inside the process and has no round trips, nor functions in SQL: the
-- code decides, in a transaction that holds the write lock. Nothing is to be made here.
SELECT 1;
