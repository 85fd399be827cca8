//! The shared buckets against the local ones, on a real server.

use std::num::NonZeroU32;

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// A realistic time, with odd nanoseconds.
const EPOCH: Duration = Duration::new(1_795_000_000, 999_999_937);

#[expect(
    clippy::disallowed_methods,
    reason = "the server of the tests is not part of the service's configuration"
)]
fn server() -> String {
    std::env::var("TEST_REDIS_URL")
        .expect("TEST_REDIS_URL names a Redis server; `make test` starts one")
}

async fn connect() -> MultiplexedConnection {
    let client = client(&server()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn name() -> String {
    format!("test:{}", uuid::Uuid::now_v7().simple())
}

/// Decisions of both limiters on requests after these pauses.
async fn decide_both(
    connection: &MultiplexedConnection,
    pace: Pace,
    pauses: &[Duration],
) -> [Vec<Result<(), Duration>>; 2] {
    let mut connection = connection.clone();
    let script = script::load(&mut connection).await.unwrap();
    let quota = Quota::with_period(pace.period)
        .unwrap()
        .allow_burst(NonZeroU32::new(pace.burst).unwrap());
    let clock = FakeRelativeClock::default();
    let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
    let (name, mut now) = (name(), EPOCH);
    let (mut local, mut shared) = (Vec::new(), Vec::new());
    for pause in pauses {
        clock.advance(*pause);
        now += *pause;
        let decision = limiter.check().map_err(|until| {
            let now = governor::clock::Clock::now(&clock);
            until.wait_time_from(now)
        });
        local.push(decision);
        let decision = script::run(&mut connection, &script, &name, pace, Some(now)).await;
        shared.push(decision.unwrap());
    }
    [local, shared]
}

/// Rates with whole, fractional, long and short periods, and bursts of one and more.
fn paces() -> impl Strategy<Value = Pace> {
    let rates = prop_oneof![
        Just(10.0),
        Just(3.0),
        Just(0.7),
        Just(50.0),
        Just(1.0 / 3_600.0),
        Just(1_234.567)
    ];
    (rates, 1_u32..8).prop_map(|(rate, burst)| Pace::new(rate, burst))
}

/// Pauses in parts of the period: none, too short, exact, exact within a nanosecond, long.
fn pauses() -> impl Strategy<Value = Vec<(f64, i64)>> {
    let part = prop_oneof![
        3 => Just(0.0),
        2 => 0.0..1.0_f64,
        2 => Just(1.0),
        1 => 1.0..20.0_f64,
    ];
    proptest::collection::vec((part, -1_i64..=1), 1..40)
}

#[test]
fn shared_and_local_buckets_decide_alike_to_the_nanosecond() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connection = runtime.block_on(connect());
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&(paces(), pauses()), |(pace, parts)| {
        let pauses: Vec<Duration> = parts
            .iter()
            .map(|(part, nanos)| {
                let pause = pace.period.mul_f64(*part);
                match nanos {
                    1 => pause + Duration::from_nanos(1),
                    -1 => pause.saturating_sub(Duration::from_nanos(1)),
                    _ => pause,
                }
            })
            .collect();
        let [local, shared] = runtime.block_on(decide_both(&connection, pace, &pauses));
        prop_assert_eq!(local, shared, "{:?} {:?}", pace, pauses);
        Ok(())
    });
    outcome.unwrap();
    // The comparison has a meaning only when both limiters refuse some requests.
    let flood = vec![Duration::ZERO; 10];
    let [local, shared] = runtime.block_on(decide_both(&connection, Pace::new(10.0, 5), &flood));
    assert_eq!(local, shared);
    assert_eq!(local.iter().filter(|decision| decision.is_err()).count(), 5);
}

#[tokio::test]
async fn ten_a_second_with_a_burst_of_five_means_that() {
    let connection = connect().await;
    let pace = Pace::new(10.0, 5);
    let allowed = |[local, shared]: [Vec<Result<(), Duration>>; 2]| {
        assert_eq!(local, shared);
        local.iter().filter(|decision| decision.is_ok()).count()
    };
    // A minute with 9 requests a second, and one with 100.
    let calm = vec![Duration::from_secs(1) / 9; 9 * 60];
    assert_eq!(allowed(decide_both(&connection, pace, &calm).await), 540);
    let flood = vec![Duration::from_millis(10); 100 * 60];
    let passed = allowed(decide_both(&connection, pace, &flood).await);
    assert_eq!(passed, 600 + 4, "the rate, and the burst once");
}

#[tokio::test]
async fn a_clock_that_jumps_back_costs_one_request_and_no_more() {
    let mut connection = connect().await;
    let script = script::load(&mut connection).await.unwrap();
    let (pace, name) = (Pace::new(10.0, 2), name());
    let mut at = async |now| {
        script::run(&mut connection, &script, &name, pace, Some(now))
            .await
            .unwrap()
    };
    assert_eq!(at(EPOCH).await, Ok(()));
    let earlier = EPOCH.saturating_sub(Duration::from_hours(1));
    assert_eq!(at(earlier).await, Err(pace.period));
}

#[tokio::test]
async fn buckets_expire_by_themselves_and_name_no_address() {
    let mut connection = connect().await;
    let metrics = RateLimitMetrics::register(&prometheus::Registry::new()).unwrap();
    let shared =
        SharedBuckets::new(&server(), name(), Duration::from_secs(5), metrics.clone()).unwrap();
    shared.reach().await;
    let live = shared.live().unwrap();
    assert_eq!(metrics.backend_up.get(), 1);
    let key = LimitKey::address("192.0.2.77".parse().unwrap());
    let decision = shared.decide(&live, "auth", key, Pace::new(1.0, 5)).await;
    assert_eq!(decision, Some(Ok(())));

    let mut keys = redis::cmd("KEYS");
    keys.arg(format!("{}*", shared.prefix));
    let keys: Vec<String> = keys.query_async(&mut connection).await.unwrap();
    assert_eq!(keys.len(), 2, "the bucket and the probe's: {keys:?}");
    for key in keys {
        assert!(!key.contains("192.0.2.77"), "{key}");
        let mut ttl = redis::cmd("PTTL");
        let left: i64 = ttl.arg(&key).query_async(&mut connection).await.unwrap();
        assert!((1..=2_000).contains(&left), "{key}: {left} ms");
    }
}

#[tokio::test]
async fn the_first_failure_opens_the_circuit_for_all_who_ask_at_once() {
    let mut connection = connect().await;
    let script = script::load(&mut connection).await.unwrap();
    let metrics = RateLimitMetrics::register(&prometheus::Registry::new()).unwrap();
    let deadline = Duration::from_millis(20);
    let shared = SharedBuckets::new(&server(), name(), deadline, metrics.clone()).unwrap();
    // A connection answers in order, and this call blocks it for ten seconds.
    let mut blocked = connection.clone();
    let never = name();
    let mut pop = redis::cmd("BLPOP");
    pop.arg(never).arg(10);
    let block = pop.query_async::<Option<Vec<String>>>(&mut blocked);
    let live = Arc::new(LiveConnection { connection, script });
    shared.close(&live);
    let pace = Pace::new(1.0, 5);
    let asked = (0..20).map(|_| shared.decide(&live, "auth", LimitKey::Overflow, pace));
    let decisions = tokio::select! {
        biased;
        _ = block => unreachable!("nothing is ever pushed"),
        decisions = futures_util::future::join_all(asked) => decisions,
    };
    assert_eq!(decisions, vec![None; 20]);
    assert!(!shared.is_up());
    assert_eq!(metrics.backend_up.get(), 0);
    let slow = metrics.backend_failures.with_label_values(&["slow"]);
    assert_eq!(slow.get(), 1, "counted and logged once");
}
