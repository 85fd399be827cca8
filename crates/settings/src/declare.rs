//! The `settings!` macro: a section of the configuration as a documented struct.

/// The default of a key. `{service}` in a text stands for the name of the service.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// The same text in every environment.
    Same(&'static str),
    /// One text for development, another for production.
    PerProfile {
        /// With `APP_ENV=development`.
        development: &'static str,
        /// With `APP_ENV=production`.
        production: &'static str,
    },
    /// Development has a default; in production the key is unset, or must be set.
    DevelopmentOnly(&'static str),
    /// No value unless one is set.
    Unset,
}

/// What the documentation says of one key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path, `http.request_timeout`.
    pub path: &'static str,
    /// The doc comment of the field.
    pub doc: &'static str,
    /// Name of the value's shape, `duration`.
    pub kind: &'static str,
    /// Value when nothing sets the key.
    pub default: Default,
    /// Whether the key may stay unset.
    pub optional: bool,
    /// Whether a `_FILE` variant is read and every output redacts it.
    pub secret: bool,
}

/// Declares a section: a struct, how it is read, and its documentation.
///
/// The page of the crate has an example.
///
/// A check is a `fn(&T) -> Result<(), String>`; its message says what is allowed.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($section:literal) {
            $(
                $(#[doc = $doc:literal])+
                pub $field:ident($key:literal): $ty:ty = $default:expr $(, check $check:expr)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
        }

        impl $name {
            /// The keys of this section, in the order of their declaration.
            pub const KEYS: &'static [$crate::Key] = {
                #[allow(unused_imports)]
                use $crate::Default::{DevelopmentOnly, PerProfile, Same, Unset};
                &[ $( $crate::Key {
                    path: concat!($section, ".", $key),
                    doc: concat!($($doc, "\n"),+),
                    kind: <$ty as $crate::Setting>::KIND,
                    default: $default,
                    optional: <$ty as $crate::Setting>::OPTIONAL,
                    secret: <$ty as $crate::Setting>::SECRET,
                }, )* ]
            };

            /// Reads the section; problems are collected in the reader.
            #[must_use]
            pub fn read(reader: &mut $crate::Reader) -> Self {
                let mut keys = Self::KEYS.iter();
                Self {
                    $( $field: {
                        let check: Option<$crate::Check<$ty>> =
                            $crate::settings!(@check $($check)?);
                        reader.value(keys.next(), check)
                    }, )*
                }
            }
        }
    };
    (@check) => { None };
    (@check $check:expr) => { Some($check) };
}
