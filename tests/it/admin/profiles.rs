//! Profiles of the running process, decoded with a separate description of the format.

use std::time::{Duration, Instant};

use prost::Message;
use reqwest::Method;

use super::{TOKEN, ask, get, production, public};
use crate::support::{Backend, Service, eventually};

/// The fields of `profile.proto` (google/pprof) that the tests need.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    name: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    async fn take(service: &Service, path: &str) -> Self {
        let request = service.client.get(service.admin(path));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/octet-stream");
        let profile = Self::decode(answer.bytes().await.unwrap()).unwrap();
        assert_eq!(profile.string_table[0], "", "as the format demands");
        profile
    }

    fn text(&self, index: i64) -> &str {
        &self.string_table[usize::try_from(index).unwrap()]
    }

    fn types(&self) -> Vec<(&str, &str)> {
        let types = self.sample_type.iter();
        types
            .map(|value| (self.text(value.name), self.text(value.unit)))
            .collect()
    }

    /// All stacks as lists of functions.
    fn stacks(&self) -> Vec<Vec<&str>> {
        let functions = |id: &u64| {
            let location = self.location.iter().find(|location| location.id == *id);
            location.unwrap().line.iter().map(|line| {
                let function = self.function.iter().find(|f| f.id == line.function_id);
                self.text(function.unwrap().name)
            })
        };
        self.sample
            .iter()
            .map(|sample| sample.location_id.iter().flat_map(functions).collect())
            .collect()
    }
}

/// Sends pings until `done`, so that profiles have content.
async fn under_load<T>(service: &Service, done: impl Future<Output = T>) -> T {
    let load = async {
        loop {
            public(service, "/api/v1/ping").await;
        }
    };
    tokio::select! {
        value = done => value,
        () = load => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn all_listed_debug_paths_exist() {
    let service = Service::start(Backend::Sqlite).await;
    let index = get(&service, "/debug/").await;
    assert_eq!(index.status, 200);
    assert_eq!(get(&service, "/debug").await.body, index.body);
    let items = index.body["items"].as_array().unwrap().clone();
    assert!(items.len() >= 3, "{items:?}");
    for item in items {
        let path = item["path"].as_str().unwrap();
        let path = path.replace("seconds=10", "seconds=1");
        assert_eq!(get(&service, &path).await.status, 200, "{path}");
        assert!(item["description"].as_str().unwrap().len() > 10, "{item}");
    }
}

#[tokio::test]
async fn a_cpu_profile_contains_the_running_functions() {
    let service = Service::start(Backend::Sqlite).await;
    let taking = Profile::take(&service, "/debug/pprof/profile?seconds=2");
    let profile = under_load(&service, taking).await;
    assert_eq!(
        profile.types(),
        [("samples", "count"), ("cpu", "nanoseconds")]
    );
    assert_eq!(profile.duration_nanos, 2_000_000_000);
    assert!(!profile.sample.is_empty());
    for sample in &profile.sample {
        assert_eq!(sample.value[1], sample.value[0] * (1_000_000_000 / 99));
    }
    let stacks = profile.stacks();
    let serving = |name: &&str| name.contains("hyper") || name.contains("tokio");
    assert!(
        stacks.iter().any(|stack| stack.iter().any(serving)),
        "{stacks:?}"
    );
    assert_eq!(public(&service, "/api/v1/ping").await.0, 200);
}

#[tokio::test]
async fn a_flame_graph_is_an_image() {
    let service = Service::start(Backend::Sqlite).await;
    let request = service
        .client
        .get(service.admin("/debug/pprof/profile?seconds=1&format=svg"));
    let answer = under_load(&service, request.send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "image/svg+xml");
    let image = answer.text().await.unwrap();
    assert!(image.contains("<svg") && image.contains("</svg>"));
    assert!(image.contains("tokio"), "names of functions");
}

#[tokio::test]
async fn a_heap_profile_contains_live_allocations() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__RATE_LIMIT__ENABLED", "false")
        .start()
        .await;
    // Incomplete bodies hold their first part in memory. The start of the sampling is not
    // observable, so bodies are sent as long as it lasts.
    let holding = async {
        use tokio::io::AsyncWriteExt as _;
        let mut held = Vec::new();
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            let mut stream = tokio::net::TcpStream::connect(service.address())
                .await
                .unwrap();
            let request = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\n\
                        content-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.write_all(&vec![b' '; 500_000]).await.unwrap();
            held.push(stream);
        }
    };
    let profile = tokio::select! {
        profile = Profile::take(&service, "/debug/pprof/heap?seconds=3") => profile,
        never = holding => never,
    };
    assert_eq!(
        profile.types(),
        [("inuse_objects", "count"), ("inuse_space", "bytes")]
    );
    let held: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
    assert!((500_000..100_000_000).contains(&held), "{held}");
    let stacks = profile.stacks();
    let serving = |name: &&str| name.contains("hyper") || name.contains("bytes");
    assert!(
        stacks.iter().any(|stack| stack.iter().any(serving)),
        "{stacks:?}"
    );
    // Sampling has stopped, and another profile can start.
    Profile::take(&service, "/debug/pprof/heap?seconds=1").await;
}

async fn is_taken(service: &Service, message: &str) {
    eventually(message, async || {
        let lines = service.logs();
        let begun = lines.iter().any(|line| line["message"] == message);
        begun.then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_profile_runs_at_a_time_and_ends_with_its_client() {
    let service = Service::start(Backend::Sqlite).await;
    let long = service
        .client
        .get(service.admin("/debug/pprof/profile?seconds=60"));
    let waiting = tokio::spawn(long.send());
    is_taken(&service, "a CPU profile was started").await;
    for path in ["/debug/pprof/heap?seconds=1", "/debug/pprof/profile"] {
        let refused = get(&service, path).await;
        assert_eq!(refused.status, 409, "{path}");
        assert_eq!(refused.body["code"], "PROFILE_RUNNING");
    }
    waiting.abort();
    let began = Instant::now();
    eventually("the next profile", async || {
        let answer = get(&service, "/debug/pprof/profile?seconds=1").await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn profiles_are_bounded_and_do_not_delay_the_exit() {
    let mut service = Service::start(Backend::Sqlite).await;
    for query in [
        "seconds=0",
        "seconds=61",
        "seconds=-1",
        "seconds=x",
        "second=1",
        "format=png",
    ] {
        let answer = get(&service, &format!("/debug/pprof/profile?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.body["code"], "INVALID_QUERY", "{query}");
    }
    let answer = get(&service, "/debug/pprof/heap?format=svg").await;
    assert_eq!(answer.status, 400);
    let long = service
        .client
        .get(service.admin("/debug/pprof/heap?seconds=60"));
    let waiting = tokio::spawn(long.send());
    is_taken(&service, "a heap profile was started").await;
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(10));
    waiting.abort();
}

#[tokio::test]
async fn tasks_are_listed_by_name() {
    let service = Service::start(Backend::Sqlite).await;
    let tasks = get(&service, "/debug/tasks").await.body;
    assert_eq!(tasks["lifecycle"], "ready");
    for name in [
        "public listener",
        "check database",
        "log filter",
        "trace sampling",
    ] {
        assert_eq!(tasks["tracked"][name], 1, "{tasks}");
    }
    let workers = tasks["runtime"]["workers"].as_u64().unwrap();
    assert!(workers >= 1);
    assert_eq!(tasks["workers"].as_array().unwrap().len() as u64, workers);
    assert!(tasks["runtime"]["alive_tasks"].as_u64().unwrap() >= 5);
}

/// Builds without the flag lack these series.
#[cfg(tokio_unstable)]
#[tokio::test]
async fn polls_are_counted_and_timed() {
    let service = Service::start(Backend::Sqlite).await;
    let polls = async || {
        let samples = service.metrics().await;
        samples.get("tokio_task_polls_total", &[]).unwrap()
    };
    let before = polls().await;
    // A worker thread publishes its counters when it parks.
    eventually("more polls", async || {
        public(&service, "/api/v1/ping").await;
        (polls().await > before).then_some(())
    })
    .await;
    let mean = service.metrics().await;
    let mean = mean.get("tokio_task_poll_mean_seconds", &[]).unwrap();
    assert!(mean > 0.0 && mean < 1.0, "{mean}");
    let tasks = get(&service, "/debug/tasks").await.body;
    let workers = tasks["workers"].as_array().unwrap();
    let counted = workers.iter().filter_map(|worker| worker["polls"].as_u64());
    assert!(counted.sum::<u64>() > 0, "{tasks}");
    assert!(workers[0]["mean_poll_seconds"].is_f64(), "{tasks}");
}

#[tokio::test]
async fn profiles_need_the_token_in_production() {
    let folder = tempfile::tempdir().unwrap();
    let service = production(folder.path())
        .env("APP__ADMIN__TOKEN", TOKEN)
        .start()
        .await;
    for path in [
        "/debug/pprof/profile?seconds=1",
        "/debug/pprof/heap?seconds=1",
        "/debug/tasks",
        "/debug/nothing",
    ] {
        assert_eq!(get(&service, path).await.status, 401, "{path}");
    }
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let path = "/debug/pprof/profile?seconds=1";
    let answer = ask(&service, Method::GET, path, None, &headers).await;
    assert_eq!(answer.status, 200);
}
