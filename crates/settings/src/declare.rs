//! The `settings!` macro: declares a configuration section as a documented struct.

/// The default of a key. Some keys have a different default in development. `{service}` in
/// a default stands for the name of the service.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// The same default in every environment.
    Same(&'static str),
    /// One default for development, another for production.
    PerProfile {
        /// With `APP_ENV=development`.
        development: &'static str,
        /// With `APP_ENV=production`.
        production: &'static str,
    },
    /// A default in development only. In production the key is unset, or required.
    DevelopmentOnly(&'static str),
    /// No default.
    Unset,
}

/// The documentation of one key.
#[derive(Debug, Clone, Copy)]
pub struct SettingKey {
    /// Dotted path, for example `http.request_timeout`.
    pub path: &'static str,
    /// The doc comment of the field.
    pub doc: &'static str,
    /// Name of the value type, for example `a whole number`.
    pub kind: &'static str,
    /// Value if no layer sets the key.
    pub default: Default,
    /// Whether the key may stay unset.
    pub optional: bool,
    /// Whether the value is redacted in every output and can be read from a file (`_FILE`).
    pub secret: bool,
}

/// Declares a section: the struct, its reader and its documentation.
///
/// The crate documentation has an example.
///
/// A check is a `fn(&T) -> Result<(), String>`. Its error message states the allowed values. Rules
/// that involve several keys or the profile are in a method `fn(&self, &mut Reader)`. Its name
/// follows the name of the section, as in `("mailer", validate)`.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($section:literal $(, $validate:ident)?) {
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
            pub const KEYS: &'static [$crate::SettingKey] = {
                #[allow(unused_imports, reason = "a section uses some of these kinds only")]
                use $crate::Default::{DevelopmentOnly, PerProfile, Same, Unset};
                &[ $( $crate::SettingKey {
                    path: concat!($section, ".", $key),
                    doc: concat!($($doc, "\n"),+),
                    kind: <$ty as $crate::Setting>::KIND,
                    default: $default,
                    optional: <$ty as $crate::Setting>::OPTIONAL,
                    secret: <$ty as $crate::Setting>::SECRET,
                }, )* ]
            };

            /// Reads and validates the section. The reader collects the problems.
            #[must_use]
            pub fn read(reader: &mut $crate::Reader) -> Self {
                let mut keys = Self::KEYS.iter();
                let section = Self {
                    $( $field: {
                        let check: Option<$crate::Check<$ty>> =
                            $crate::settings!(@check $($check)?);
                        reader.value(keys.next(), check)
                    }, )*
                };
                $( section.$validate(reader); )?
                section
            }
        }
    };
    (@check) => { None };
    (@check $check:expr) => { Some($check) };
}
