//! Sorts the driver's errors by what can still be done with the session that failed.
//!
//! The source of the Postgres codes is Appendix A of its manual, that of the SQLite
//! codes <https://sqlite.org/rescode.html>.

/// What an error says about the session and the server behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The statement itself: a constraint, a defect.
    Statement,
    /// Not now: a lock, a deadlock, a timeout. The session is as good as before.
    Busy,
    /// The session is of no further use and is closed.
    Session(Reason),
}

/// Why a session is closed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The connection broke, or the server ended it.
    Lost,
    /// The server did not let this service in: password, role, database.
    Refused,
    /// The server can be read only.
    ReadOnly,
    /// The file of an embedded database can be read only.
    ReadOnlyFile,
    /// The server ran out of space, memory or connections.
    Resources,
    /// The storage failed: an I/O error, a file that cannot be opened or written.
    Storage,
    /// The data is damaged.
    Corrupt,
    /// The schema changed under a prepared statement.
    StalePlan,
    /// The session's transaction is in a state that no store leaves behind.
    State,
    /// It did not come back from an abandoned query in time.
    Silent,
}

/// What becomes of the other sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// They are good.
    Keep,
    /// Each is asked for a sign of life before its next use.
    Ask,
    /// They have the same fault and are closed.
    Close,
}

impl Reason {
    /// Every reason, for the series that exist from the start.
    pub(crate) const ALL: [Self; 9] = [
        Self::Lost,
        Self::Refused,
        Self::ReadOnly,
        Self::Resources,
        Self::Storage,
        Self::Corrupt,
        Self::StalePlan,
        Self::State,
        Self::Silent,
    ];

    /// Its name in metrics and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::ReadOnly | Self::ReadOnlyFile => "read_only",
            Self::Resources => "resources",
            Self::Storage => "storage",
            Self::Corrupt => "corrupt",
            Self::StalePlan => "stale_plan",
            Self::State => "state",
            Self::Silent => "silent",
        }
    }

    /// What the sessions beside this one are worth.
    pub(crate) const fn others(self) -> Others {
        match self {
            // Most often the network or the whole server.
            Self::Lost | Self::Silent => Others::Ask,
            // They speak to the same server, or hold the same file, page or plan.
            Self::ReadOnly | Self::ReadOnlyFile | Self::Corrupt | Self::StalePlan => Others::Close,
            Self::Refused | Self::Resources | Self::Storage | Self::State => Others::Keep,
        }
    }
}

impl Fault {
    /// Whether another try may succeed without a change of this program.
    pub(crate) const fn is_unavailable(self) -> bool {
        match self {
            Self::Statement | Self::Session(Reason::State) => false,
            Self::Busy | Self::Session(_) => true,
        }
    }

    /// Whether waiting at the start mends it. Wrong credentials, a file that cannot be
    /// opened or a damaged one need a person.
    pub(crate) const fn is_transient(self) -> bool {
        use Reason::{Corrupt, ReadOnlyFile, Refused, Storage};
        self.is_unavailable()
            && !matches!(
                self,
                Self::Session(Refused | Storage | Corrupt | ReadOnlyFile)
            )
    }

    /// What `error` says.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Self::Busy,
            // After an unexpected message nobody knows which answer comes next.
            sqlx::Error::WorkerCrashed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_) => Self::Session(Reason::Lost),
            sqlx::Error::Database(error) => of_database(&**error),
            _ => Self::Statement,
        }
    }
}

fn of_database(error: &dyn sqlx::error::DatabaseError) -> Fault {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        use sqlx::postgres::PgSeverity;
        let ended = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
        return of_postgres(error.code(), error.routine(), ended);
    }
    #[cfg(feature = "sqlite")]
    if error
        .try_downcast_ref::<sqlx::sqlite::SqliteError>()
        .is_some()
    {
        let code = error.code().and_then(|code| code.parse().ok());
        return code.map_or(Fault::Statement, of_sqlite);
    }
    Fault::Statement
}

/// `routine` is the server's function that failed, which is in no language; `ended`
/// says that the server ended the session with this error.
#[cfg(feature = "postgres")]
fn of_postgres(code: &str, routine: Option<&str>, ended: bool) -> Fault {
    use Reason::{Corrupt, Lost, ReadOnly, Refused, Resources, StalePlan, State, Storage};
    match (code, code.get(..2).unwrap_or_default()) {
        // "cached plan must not change result type"; any other is a defect.
        ("0A000", _) if routine == Some("RevalidateCachedQuery") => Fault::Session(StalePlan),
        // The session does not know the statement, or knows another of that name: a
        // pooler has changed it, or somebody said DEALLOCATE.
        ("26000" | "42P05", _) => Fault::Session(StalePlan),
        ("25006", _) => Fault::Session(ReadOnly),
        (_, "25") if !matches!(code, "25P03" | "25P04") => Fault::Session(State),
        // 25P03, 25P04: the time of an idle transaction, or of any, is over.
        (_, "08" | "25") => Fault::Session(Lost),
        // 3D000: no such database, 55000: it takes no connections for now.
        (_, "28") | ("3D000", _) => Fault::Session(Refused),
        ("55000", _) if ended => Fault::Session(Refused),
        (_, "53") => Fault::Session(Resources),
        // Cancelled, by the statement timeout for one: the session goes on.
        ("57014", _) if !ended => Fault::Busy,
        (_, "57") => Fault::Session(Lost),
        // Errors of the system outside of Postgres.
        (_, "58") => Fault::Session(Storage),
        ("XX001" | "XX002", _) => Fault::Session(Corrupt),
        // Serialization and deadlock; 55P03 is the lock timeout.
        (_, "40") | ("55P03", _) if !ended => Fault::Busy,
        _ if ended => Fault::Session(Lost),
        _ => Fault::Statement,
    }
}

/// The primary code is in the low byte.
#[cfg(feature = "sqlite")]
const fn of_sqlite(code: u32) -> Fault {
    match code & 0xff {
        // BUSY, LOCKED, INTERRUPT, PROTOCOL (the lock of the log).
        5 | 6 | 9 | 15 => Fault::Busy,
        // NOMEM, FULL.
        7 | 13 => Fault::Session(Reason::Resources),
        8 => Fault::Session(Reason::ReadOnlyFile),
        // PERM, IOERR, CANTOPEN, NOLFS.
        3 | 10 | 14 | 22 => Fault::Session(Reason::Storage),
        // CORRUPT, NOTADB.
        11 | 26 => Fault::Session(Reason::Corrupt),
        _ => Fault::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "postgres")]
    #[test]
    fn the_classes_of_postgres_say_what_becomes_of_the_session() {
        use Reason::{Corrupt, Lost, ReadOnly, Refused, Resources, StalePlan, State, Storage};
        for (code, ended, fault) in [
            ("08006", false, Fault::Session(Lost)),
            ("08P01", true, Fault::Session(Lost)),
            ("25006", false, Fault::Session(ReadOnly)),
            ("25P02", false, Fault::Session(State)),
            ("25P03", true, Fault::Session(Lost)),
            ("26000", false, Fault::Session(StalePlan)),
            ("28P01", true, Fault::Session(Refused)),
            ("3D000", true, Fault::Session(Refused)),
            ("55000", true, Fault::Session(Refused)),
            ("55000", false, Fault::Statement),
            ("53100", false, Fault::Session(Resources)),
            ("53300", true, Fault::Session(Resources)),
            ("57014", false, Fault::Busy),
            ("57P01", true, Fault::Session(Lost)),
            ("57P03", true, Fault::Session(Lost)),
            ("58030", false, Fault::Session(Storage)),
            ("XX001", false, Fault::Session(Corrupt)),
            ("XX000", true, Fault::Session(Lost)),
            ("XX000", false, Fault::Statement),
            ("40P01", false, Fault::Busy),
            ("55P03", false, Fault::Busy),
            ("23505", false, Fault::Statement),
            ("42P01", false, Fault::Statement),
            ("42P05", false, Fault::Session(StalePlan)),
            ("0A000", false, Fault::Statement),
        ] {
            assert_eq!(of_postgres(code, None, ended), fault, "{code}");
        }
        let stale = of_postgres("0A000", Some("RevalidateCachedQuery"), false);
        assert_eq!(stale, Fault::Session(StalePlan));
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn the_primary_codes_of_sqlite_say_what_becomes_of_the_session() {
        // With extended codes: SQLITE_IOERR_WRITE, SQLITE_CONSTRAINT_UNIQUE.
        for (code, fault) in [
            (5, Fault::Busy),
            (6, Fault::Busy),
            (8, Fault::Session(Reason::ReadOnlyFile)),
            (778, Fault::Session(Reason::Storage)),
            (11, Fault::Session(Reason::Corrupt)),
            (13, Fault::Session(Reason::Resources)),
            (14, Fault::Session(Reason::Storage)),
            (26, Fault::Session(Reason::Corrupt)),
            (1, Fault::Statement),
            (2067, Fault::Statement),
        ] {
            assert_eq!(of_sqlite(code), fault, "{code}");
        }
    }

    #[test]
    fn a_defect_of_the_state_is_no_outage_and_still_ends_the_session() {
        assert!(!Fault::Session(Reason::State).is_unavailable());
        assert!(Fault::Session(Reason::Refused).is_unavailable());
        assert!(!Fault::Session(Reason::Refused).is_transient());
        assert!(Fault::Busy.is_transient());
    }
}
