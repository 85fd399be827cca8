//! Configuration as documented, typed keys.
//!
//! Each section lives beside the code that it configures and is declared with
//! [`settings!`](crate::settings): one documented line a key, with its default.
//! `crate::config` composes the sections. Layers, standard variables and
//! `_FILE` secrets are read in [`layers`]; [`Reader`] turns them into values and
//! collects every problem, so that one report names them all.

pub mod check;
mod declare;
pub mod layers;
mod reader;
mod value;
pub mod watch_file;

pub use declare::{Default, Key};
pub use layers::{Layers, Profile};
pub use reader::{Check, Effective, Problem, Reader};
pub use value::{ByteSize, Raw, Secret, SecretSource, Setting, parse_duration};
pub use watch_file::{Look, WatchedFiles};
