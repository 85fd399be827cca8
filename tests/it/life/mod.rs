//! The life of a process: start, drain, exit, and what happens when others fail.

mod database;
mod drain;
mod failure;
mod hang_up;
mod hold;
mod outage;
mod signals;
mod start;
mod streams;
mod words;
mod workers;
