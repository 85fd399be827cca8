//! File descriptors. The limit is raised as far as possible, and a reserve is kept that connections
//! of the public listener cannot use.

use http_server::connection::admission::REFUSALS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors of a database connection: its socket, or with SQLite the file, its log and its
/// index. One more while it is replaced.
const PER_DATABASE_CONNECTION: u64 = 4;
/// Descriptors of the process itself: output, listeners, event queues, files that are read again,
/// and connections to Redis and the collector.
const OTHERS: u64 = 64;

/// Raises the soft limit of open files to the hard limit. Returns the number of connections that
/// the public listener may have: `http.max_connections` or fewer.
///
/// # Errors
/// When the limit has no room for a connection.
pub(super) fn fit(config: &Config) -> anyhow::Result<u32> {
    let (limit, reserve) = (raise(), reserve(config));
    let wanted = config.http.max_connections;
    let Some(fitting) = room(limit, reserve, wanted) else {
        anyhow::bail!(
            "the limit of open files is {}, and {reserve} are kept for the admin listener, the \
             database and the process itself: raise the hard limit (ulimit -Hn, LimitNOFILE), or \
             lower admin.max_connections and database.max_connections",
            limit.unwrap_or_default()
        );
    };
    if fitting < wanted {
        tracing::warn!(
            limit,
            reserve,
            wanted,
            max_connections = fitting,
            "http.max_connections does not fit into the limit of open files and is lowered: raise \
             the hard limit (ulimit -Hn, LimitNOFILE)"
        );
    }
    Ok(fitting)
}

/// The number of descriptors that connections of the public listener must leave free.
fn reserve(config: &Config) -> u64 {
    let database = u64::from(config.database.max_connections) * PER_DATABASE_CONNECTION;
    // Twice, because both listeners refuse connections.
    u64::from(config.admin.max_connections) + 2 * u64::from(REFUSALS) + database + OTHERS
}

/// Number of the `wanted` connections that fit into the limit beside the reserve.
fn room(limit: Option<u64>, reserve: u64, wanted: u32) -> Option<u32> {
    let Some(limit) = limit else {
        return Some(wanted);
    };
    let room = limit.checked_sub(reserve).filter(|room| *room > 0)?;
    Some(u32::try_from(room).unwrap_or(u32::MAX).min(wanted))
}

/// Raises the soft limit to the hard limit, and returns the limit that is then in force. `None`
/// means no limit.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn connections_get_what_the_reserve_leaves() {
        assert_eq!(room(None, 300, 10_000), Some(10_000));
        assert_eq!(room(Some(1 << 20), 300, 10_000), Some(10_000));
        assert_eq!(room(Some(1_024), 300, 10_000), Some(724));
        assert_eq!(room(Some(301), 300, 10_000), Some(1));
        assert_eq!(room(Some(300), 300, 10_000), None);
        assert_eq!(room(Some(20), 300, 10_000), None);
    }
}
