//! `APP_ENV`: the name of the environment and the profile that it selects.

use std::path::Path;

/// The profile selects defaults and decides which unsafe values are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Convenient defaults for a single machine.
    #[default]
    Development,
    /// Safe defaults. Generated keys and other conveniences are rejected.
    Production,
}

impl Profile {
    /// The name of the built-in environment with this profile.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// The name of an environment and its profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `development`, `production`, or the name of an environment with its own file.
    pub name: String,
    /// Every environment except `development` has the production profile.
    pub profile: Profile,
}

impl Default for Environment {
    fn default() -> Self {
        Self::of(Profile::default())
    }
}

impl Environment {
    /// A built-in environment.
    pub(crate) fn of(profile: Profile) -> Self {
        Self {
            name: profile.as_str().to_owned(),
            profile,
        }
    }

    /// Parses the value of `APP_ENV`.
    ///
    /// # Errors
    /// When the environment does not exist. The text continues a sentence that begins with the
    /// variable.
    pub(crate) fn read(value: &str, directory: &Path) -> Result<Self, String> {
        match value {
            "" | "development" => return Ok(Self::of(Profile::Development)),
            "production" => return Ok(Self::of(Profile::Production)),
            _ => {}
        }
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !value.bytes().all(letters) || value == "base" {
            return Err(
                "is not the name of an environment: development, production, or one of lower-case \
                 letters, digits and hyphens that has a file"
                    .to_owned(),
            );
        }
        let file = directory.join(format!("{value}.yaml"));
        if !file.is_file() {
            return Err(format!(
                "is `{value}`, which needs the file {} (development and production need none)",
                file.display()
            ));
        }
        Ok(Self {
            name: value.to_owned(),
            profile: Profile::Production,
        })
    }
}
