//! Sorts the driver's errors by the further use of the session that failed.
//!
//! The Postgres codes are those of Appendix A of its manual, the SQLite codes those of
//! <https://sqlite.org/rescode.html>.

/// The kind of an error, by its effect on the session and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The statement: a constraint or a defect.
    Statement,
    /// A lock, a deadlock or a timeout. The session remains usable.
    Busy,
    /// The session is no longer usable and is closed.
    Session(DiscardReason),
}

/// The reason why a session is closed early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DiscardReason {
    /// The connection broke, or the server ended it.
    Lost,
    /// The server rejected this service: password, role or database.
    Refused,
    /// The server is read-only.
    ReadOnly,
    /// The file of an embedded database is read-only.
    ReadOnlyFile,
    /// The server ran out of space, memory or connections.
    Resources,
    /// The storage failed: an I/O error, a file that cannot be opened or written.
    Storage,
    /// The data is damaged.
    Corrupt,
    /// The schema changed under a prepared statement.
    StalePlan,
    /// The session's transaction is in a state that correct stores do not cause.
    State,
    /// The connection did not recover from an abandoned query in time.
    Silent,
}

/// The effect of a fault on the other sessions of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherSessions {
    /// They remain in use.
    Keep,
    /// Each is pinged before its next use.
    Ping,
    /// They have the same fault and are closed.
    Close,
}

impl DiscardReason {
    /// Every reason. The series of all of them exist from the start.
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

    /// The name in metrics and logs.
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

    /// The effect of a fault on the other sessions of the pool.
    pub(crate) const fn other_sessions(self) -> OtherSessions {
        match self {
            // The cause is most often the network or the whole server.
            Self::Lost | Self::Silent => OtherSessions::Ping,
            // They use the same server, file, page or plan.
            Self::ReadOnly | Self::ReadOnlyFile | Self::Corrupt | Self::StalePlan => {
                OtherSessions::Close
            }
            Self::Refused | Self::Resources | Self::Storage | Self::State => OtherSessions::Keep,
        }
    }
}

impl Fault {
    /// Returns true if another try may succeed without a change of this program.
    pub(crate) const fn is_unavailable(self) -> bool {
        match self {
            Self::Statement | Self::Session(DiscardReason::State) => false,
            Self::Busy | Self::Session(_) => true,
        }
    }

    /// Returns true if the fault may disappear while the process waits at the start. Wrong
    /// credentials and files that are damaged or cannot be opened need a person.
    pub(crate) const fn is_transient(self) -> bool {
        use DiscardReason::{Corrupt, ReadOnlyFile, Refused, Storage};
        self.is_unavailable()
            && !matches!(
                self,
                Self::Session(Refused | Storage | Corrupt | ReadOnlyFile)
            )
    }

    /// Sorts an error of the driver.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Self::Busy,
            // After an unexpected message, the next answers cannot be matched to queries.
            sqlx::Error::WorkerCrashed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_) => Self::Session(DiscardReason::Lost),
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

/// `routine` is the function of the server that failed. Unlike the message it is not translated.
/// `ended` is true if the server ended the session with this error.
#[cfg(feature = "postgres")]
fn of_postgres(code: &str, routine: Option<&str>, ended: bool) -> Fault {
    use DiscardReason::{Corrupt, Lost, ReadOnly, Refused, Resources, StalePlan, State, Storage};
    match (code, code.get(..2).unwrap_or_default()) {
        // The error "cached plan must not change result type". Any other 0A000 is a defect.
        ("0A000", _) if routine == Some("RevalidateCachedQuery") => Fault::Session(StalePlan),
        // The session lacks the statement or has another one of that name. A pooler changed the
        // session, or a client sent DEALLOCATE.
        ("26000" | "42P05", _) => Fault::Session(StalePlan),
        ("25006", _) => Fault::Session(ReadOnly),
        (_, "25") if !matches!(code, "25P03" | "25P04") => Fault::Session(State),
        // 25P03 and 25P04: the timeout of an idle transaction, or of any transaction.
        (_, "08" | "25") => Fault::Session(Lost),
        // 3D000: no such database. 55000: the database accepts no connections now.
        (_, "28") | ("3D000", _) => Fault::Session(Refused),
        ("55000", _) if ended => Fault::Session(Refused),
        (_, "53") => Fault::Session(Resources),
        // Cancelled, for example by the statement timeout. The session remains usable.
        ("57014", _) if !ended => Fault::Busy,
        (_, "57") => Fault::Session(Lost),
        // Errors of the system outside of Postgres.
        (_, "58") => Fault::Session(Storage),
        ("XX001" | "XX002", _) => Fault::Session(Corrupt),
        // Serialization failures and deadlocks. 55P03 is the lock timeout.
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
        7 | 13 => Fault::Session(DiscardReason::Resources),
        8 => Fault::Session(DiscardReason::ReadOnlyFile),
        // PERM, IOERR, CANTOPEN, NOLFS.
        3 | 10 | 14 | 22 => Fault::Session(DiscardReason::Storage),
        // CORRUPT, NOTADB.
        11 | 26 => Fault::Session(DiscardReason::Corrupt),
        _ => Fault::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "postgres")]
    #[test]
    fn the_classes_of_postgres_decide_whether_the_session_is_closed() {
        use DiscardReason::{
            Corrupt, Lost, ReadOnly, Refused, Resources, StalePlan, State, Storage,
        };
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
    fn the_primary_codes_of_sqlite_decide_whether_the_session_is_closed() {
        // Includes extended codes: SQLITE_IOERR_WRITE (778), SQLITE_CONSTRAINT_UNIQUE (2067).
        for (code, fault) in [
            (5, Fault::Busy),
            (6, Fault::Busy),
            (8, Fault::Session(DiscardReason::ReadOnlyFile)),
            (778, Fault::Session(DiscardReason::Storage)),
            (11, Fault::Session(DiscardReason::Corrupt)),
            (13, Fault::Session(DiscardReason::Resources)),
            (14, Fault::Session(DiscardReason::Storage)),
            (26, Fault::Session(DiscardReason::Corrupt)),
            (1, Fault::Statement),
            (2067, Fault::Statement),
        ] {
            assert_eq!(of_sqlite(code), fault, "{code}");
        }
    }

    #[test]
    fn a_defect_of_the_state_closes_the_session_but_is_no_outage() {
        assert!(!Fault::Session(DiscardReason::State).is_unavailable());
        assert!(Fault::Session(DiscardReason::Refused).is_unavailable());
        assert!(!Fault::Session(DiscardReason::Refused).is_transient());
        assert!(Fault::Busy.is_transient());
    }
}
