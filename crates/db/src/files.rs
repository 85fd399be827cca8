//! The files of an embedded database and their permissions.

use crate::database::Database;

/// Permission bits of users who are neither the owner nor in the group.
#[cfg(feature = "sqlite")]
const OTHER_USERS: u32 = 0o006;

impl Database {
    /// One line for each file of the database that every user of this machine can open. New files
    /// are created private. Existing files keep their mode.
    #[must_use]
    pub fn exposed_files(&self) -> Vec<String> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => {
                let options = db.warm.pool.connect_options();
                describe_exposed(options.get_filename())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Vec::new(),
        }
    }
}

#[cfg(feature = "sqlite")]
fn describe_exposed(database: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let beside = |suffix: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        std::path::PathBuf::from(path)
    };
    ["", "-wal", "-shm"]
        .map(beside)
        .into_iter()
        .filter_map(|path| {
            let mode = path.metadata().ok()?.permissions().mode() & 0o777;
            (mode & OTHER_USERS != 0).then(|| {
                let path = path.display();
                format!("{path} can be opened by every user of this machine (mode {mode:o}); run chmod 600 {path}")
            })
        })
        .collect()
}
