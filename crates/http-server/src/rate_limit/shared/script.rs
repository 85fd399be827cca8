//! The one script that the server runs: reads, decides and writes a bucket at once.

use std::time::Duration;

use redis::aio::ConnectionLike;

const SOURCE: &str = include_str!("gcra.lua");

/// A rate as GCRA has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The time in which one request comes back.
    pub period: Duration,
    /// Requests at once.
    pub burst: u32,
}

impl Pace {
    /// Rates above one per nanosecond are one per nanosecond. The configuration
    /// refuses rates so low that their time can be counted no more.
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

/// Makes the server know the script; the answer is the name to call it by.
pub(crate) async fn load(connection: &mut impl ConnectionLike) -> redis::RedisResult<String> {
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(SOURCE);
    load.query_async(connection).await
}

/// Takes one request from the bucket `name`, or says how long to wait. The time is
/// the server's unless one is given.
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
