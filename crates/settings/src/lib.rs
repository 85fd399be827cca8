//! Configuration as documented, typed keys. Also holds the clock, new identifiers, backoff and
//! validation errors, which every other crate uses.
//!
//! A section is declared with [`settings!`] next to the code that it configures, one documented
//! line for each key with its default. The service composes the sections. [`Layers`] merges files,
//! standard variables and `APP__` variables. [`Reader`] converts them to typed values and collects
//! all problems for one report.
//!
//! ```
//! use std::time::Duration;
//!
//! use settings::{Layers, Reader, check, settings};
//!
//! settings! {
//!     /// The mailer.
//!     pub struct Mailer("mailer") {
//!         /// Time that the server has for one message.
//!         pub timeout("timeout"): Duration = Same("5s"), check check::positive;
//!         /// Messages in flight at most.
//!         pub max_in_flight("max_in_flight"): u32 = Same("4"), check check::at_least_one;
//!     }
//! }
//!
//! let environment = [("APP__MAILER__TIMEOUT".to_owned(), "250ms".to_owned())];
//! let layers = Layers::load("no/folder".as_ref(), "no/.env".as_ref(), environment);
//! let mut reader = Reader::new(layers);
//! let mailer = Mailer::read(&mut reader);
//! assert_eq!(mailer.timeout, Duration::from_millis(250));
//! assert_eq!(mailer.max_in_flight, 4);
//! assert!(reader.finish().is_ok());
//! ```

pub mod backoff;
pub mod check;
pub mod clock;
mod declare;
mod environment;
mod file;
mod key_lines;
pub mod layers;
mod names;
mod problem;
mod reader;
pub mod validation;
mod value;
pub mod watch_file;

pub use declare::{Default, SettingKey};
pub use environment::{Environment, Profile};
pub use layers::Layers;
pub use names::{nearest_name, variable};
pub use problem::Problem;
pub use reader::{Check, EffectiveValue, Reader};
pub use value::{ByteSize, RawValue, Secret, SecretSource, Setting, SourcedValue, parse_duration};
pub use watch_file::{FileChange, WatchedFiles};
