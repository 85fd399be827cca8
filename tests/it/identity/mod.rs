//! Users, credentials and tokens, as clients see them.

mod administrators;
mod bootstrap;
mod client;
mod database;
mod erasure;
mod guesses;
mod hashing;
mod keys;
mod login;
mod refresh;
mod tokens;
mod users;
