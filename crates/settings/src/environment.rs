//! `APP_ENV`: the name of the environment, and whose rules it has.

use std::path::Path;

/// What the process is run for; selects defaults and refuses what is unsafe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Kind defaults for one machine.
    #[default]
    Development,
    /// Safe defaults; refuses generated keys and the like.
    Production,
}

impl Profile {
    /// The environment of this name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// A name, and the profile that decides between defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `development`, `production`, or one that has a file of its own.
    pub name: String,
    /// Every environment but `development` has the rules of production.
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

    /// Reads the value of `APP_ENV`.
    ///
    /// # Errors
    /// When there is no such environment; what is wrong, as the rest of a sentence.
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
                "is `{value}`, which needs {}; development and production need no file",
                file.display()
            ));
        }
        Ok(Self {
            name: value.to_owned(),
            profile: Profile::Production,
        })
    }
}
