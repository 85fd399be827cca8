//! The life of a process: start, drain, exit, and what happens when others fail.

mod database;
mod drain;
mod failure;
mod hang_up;
mod hold;
mod outage;
mod schema;
mod signals;
mod start;
mod storage;
mod streams;
mod words;
mod workers;
