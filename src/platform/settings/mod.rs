//! Configuration as documented, typed keys.
//!
//! Each section lives beside the code that it configures and is declared with
//! [`settings!`](crate::settings): one documented line a key, with its default.
//! `crate::config` composes the sections. Layers, standard variables and
//! `_FILE` secrets are read in [`layers`]; [`Reader`] turns them into values and
//! collects every problem, so that one report names them all.

pub mod check;
mod declare;
mod environment;
mod file;
pub mod layers;
mod lines;
mod names;
mod reader;
mod value;
pub mod watch_file;

pub use declare::{Default, Key};
pub use environment::{Environment, Profile};
pub use layers::Layers;
pub use names::{nearest, nearly_standard, variable};
pub use reader::{Check, Effective, Problem, Reader};
pub use value::{ByteSize, Raw, Secret, SecretSource, Setting, parse_duration};
pub use watch_file::{Look, WatchedFiles};
