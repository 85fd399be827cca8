use std::cell::Cell;

use futures_util::future::{join, join_all};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::oidc::metadata::FetchError;
use crate::oidc::tests::keys::TestKey;

const SOON: Duration = Duration::from_millis(50);

fn cache(refetch_interval: Duration) -> KeyCache {
    KeyCache {
        state: watch::Sender::default(),
        wake: Notify::new(),
        refresh_interval: Duration::from_mins(10),
        refetch_interval,
        max_age: Duration::from_hours(1),
        longest_wait: Duration::from_secs(5),
    }
}

fn set(key: &TestKey, kid: &str) -> Fetched {
    let keys = json!({"keys": [key.jwk(kid)]}).to_string();
    Fetched {
        keys: KeySet::parse(keys.as_bytes()).unwrap(),
        max_age: None,
    }
}

fn fetched(cache: &KeyCache, result: Result<Fetched, FetchError>) -> Duration {
    cache.end_fetch(cache.begin_fetch(), result, &mut cache.retries())
}

/// Fetches sets with the keys `0`, `1`, … until the test ends.
async fn keep(cache: &KeyCache, key: &TestKey, fetches: &Cell<u32>) {
    loop {
        let began = cache.begin_fetch();
        tokio::time::sleep(SOON).await;
        let result = set(key, &fetches.get().to_string());
        fetches.set(fetches.get() + 1);
        let pause = cache.end_fetch(began, Ok(result), &mut cache.retries());
        cache.pause(pause).await;
    }
}

#[tokio::test]
async fn requests_wait_for_the_first_fetch_and_share_it() {
    let (cache, [_, key, _]) = (cache(Duration::from_mins(1)), TestKey::all());
    let fetches = Cell::new(0);
    let requests = join_all((0..20).map(|_| cache.keys_with("0")));
    tokio::select! {
        () = keep(&cache, &key, &fetches) => {}
        results = requests => assert!(results.iter().all(Result::is_ok)),
    }
    assert_eq!(fetches.get(), 1);
}

#[tokio::test]
async fn an_unknown_key_causes_one_fetch_within_the_interval() {
    let (cache, [_, key, _]) = (cache(4 * SOON), TestKey::all());
    let fetches = Cell::new(0);
    let requests = async {
        cache.keys_with("0").await.map(drop).unwrap();
        // The first fetch began a short time ago.
        for _ in 0..10 {
            let missing = cache.keys_with("1").await.map(drop);
            assert_eq!(missing, Err(Missing::Unknown));
        }
        assert_eq!(fetches.get(), 1);
        tokio::time::sleep(4 * SOON).await;
        let all = join_all((0..20).map(|_| cache.keys_with("1"))).await;
        assert!(all.iter().all(Result::is_ok), "the keys were rotated");
        assert_eq!(fetches.get(), 2);
    };
    tokio::select! {
        () = keep(&cache, &key, &fetches) => {}
        () = requests => {}
    }
}

#[tokio::test]
async fn a_request_that_ends_early_does_not_end_the_fetch() {
    let (cache, [_, key, _]) = (cache(Duration::from_mins(1)), TestKey::all());
    let fetches = Cell::new(0);
    let requests = async {
        assert!(timeout(SOON / 5, cache.keys_with("0")).await.is_err());
        cache.keys_with("0").await.map(drop).unwrap();
    };
    tokio::select! {
        () = keep(&cache, &key, &fetches) => {}
        ((), ()) = join(requests, std::future::ready(())) => {}
    }
    assert_eq!(fetches.get(), 1);
}

#[tokio::test]
async fn a_wait_ends_when_nothing_is_fetched_any_more() {
    let mut cache = cache(Duration::from_mins(1));
    cache.longest_wait = SOON;
    let missing = timeout(100 * SOON, cache.keys_with("one")).await;
    let missing = missing.expect("the wait has a limit").map(drop);
    assert_eq!(missing, Err(Missing::Unavailable));
}

#[tokio::test]
async fn a_failed_fetch_keeps_the_keys_up_to_their_age() {
    let [_, key, _] = TestKey::all();
    let mut cache = cache(Duration::from_mins(1));
    fetched(&cache, Err(FetchError::Metadata));
    assert_eq!(
        cache.keys_with("one").await.map(drop),
        Err(Missing::Unavailable)
    );
    assert!(!cache.has_succeeded());
    fetched(&cache, Ok(set(&key, "one")));
    assert!(cache.has_succeeded());
    fetched(&cache, Err(FetchError::Metadata));
    assert!(!cache.has_succeeded());
    assert!(cache.keys_with("one").await.is_ok());
    assert_eq!(
        cache.keys_with("two").await.map(drop),
        Err(Missing::Unknown)
    );
    cache.max_age = Duration::ZERO;
    assert_eq!(
        cache.keys_with("one").await.map(drop),
        Err(Missing::Unavailable)
    );
}

#[test]
fn the_generation_changes_with_the_keys() {
    let ([_, key, _], [_, other, _]) = (TestKey::all(), TestKey::all());
    let cache = cache(Duration::from_mins(1));
    let generation = |result| {
        fetched(&cache, result);
        cache.current().unwrap().generation
    };
    assert_eq!(generation(Ok(set(&key, "one"))), 0);
    assert_eq!(generation(Ok(set(&key, "one"))), 0);
    assert_eq!(generation(Err(FetchError::Metadata)), 0);
    assert_eq!(generation(Ok(set(&other, "one"))), 1);
    assert_eq!(generation(Ok(set(&other, "two"))), 2);
}

#[test]
fn the_next_fetch_follows_the_age_of_the_keys_and_failures_follow_quickly() {
    let [_, key, _] = TestKey::all();
    let cache = cache(Duration::from_secs(30));
    for (max_age, expected) in [
        (None, 600),
        (Some(120), 120),
        (Some(0), 30),
        (Some(9_999), 600),
    ] {
        let result = Fetched {
            max_age: max_age.map(Duration::from_secs),
            ..set(&key, "one")
        };
        let pause = fetched(&cache, Ok(result)).as_secs_f64() / f64::from(expected);
        assert!((0.9..=1.1).contains(&pause), "{max_age:?}: {pause}");
    }
    let mut retries = cache.retries();
    let pauses = [(); 7].map(|()| {
        let result = Err(FetchError::Metadata);
        cache
            .end_fetch(cache.begin_fetch(), result, &mut retries)
            .as_secs_f64()
    });
    assert!(pauses[0] <= 1.1 && pauses[6] <= 33.0, "{pauses:?}");
    assert!(pauses[6] >= 27.0, "{pauses:?}");
}
