//! The life of a process: start, drain, exit, and what happens when others fail.

mod database;
mod drain;
mod hang_up;
mod start;
mod streams;
mod workers;
