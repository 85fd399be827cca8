//! The script that the server runs. It reads, decides and writes a bucket in one step.

use std::time::Duration;

use redis::aio::ConnectionLike;

const SOURCE: &str = include_str!("gcra.lua");

/// A rate in the form of GCRA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Time in which one request returns.
    pub period: Duration,
    /// Requests that are allowed at once.
    pub burst: u32,
}

impl Pace {
    /// Rates above one per nanosecond count as one per nanosecond. The configuration rejects rates
    /// so low that their time cannot be counted.
    pub(crate) fn new(per_second: f64, burst: u32) -> Self {
        let period = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::MAX);
        Self {
            period: period.max(Duration::from_nanos(1)),
            burst,
        }
    }

    /// The time in which an empty bucket fills.
    pub(crate) fn refill(&self) -> Duration {
        self.period.saturating_mul(self.burst)
    }
}

/// Loads the script into the server. Returns the name to call it by.
pub(crate) async fn load(connection: &mut impl ConnectionLike) -> redis::RedisResult<String> {
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(SOURCE);
    load.query_async(connection).await
}

/// Takes one request from the bucket `name`, or returns the time to wait. The time is the server's
/// unless `now` is given.
pub(crate) async fn run(
    connection: &mut impl ConnectionLike,
    script: &str,
    name: &str,
    pace: Pace,
    now: Option<Duration>,
) -> redis::RedisResult<Result<(), Duration>> {
    let one = u64::try_from(pace.period.as_nanos()).unwrap_or(u64::MAX);
    let most = one.saturating_mul(u64::from(pace.burst.saturating_sub(1)));
    let mut call = redis::cmd("EVALSHA");
    call.arg(script).arg(1).arg(name).arg(one).arg(most);
    if let Some(now) = now {
        call.arg(now.as_secs()).arg(now.subsec_nanos());
    }
    let wait: u64 = call.query_async(connection).await?;
    Ok(if wait == 0 {
        Ok(())
    } else {
        Err(Duration::from_nanos(wait))
    })
}
