//! Settings that can be changed on the running process: the log filter and the ratio of sampled
//! traces. `PUT` answers with the new state. With a `ttl` the old value returns by itself.

use std::borrow::Cow;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http_server::extract::Json;
use http_server::problem::ProblemResponse;
use lifecycle::Lifecycle;
use request::{FieldError, Fields, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use settings::clock::SharedClock;
use settings::validation;
use telemetry::{Logs, Traces};
use time::format_description::well_known::Rfc3339;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::revertible::{Revertible, SwitchState, Ttl};

/// The switches of a process.
#[derive(Clone)]
pub struct Switches {
    logs: Logs,
    log_filter: Revertible<String>,
    trace_ratio: Revertible<f64>,
}

impl Switches {
    /// Switches with the values of the configuration.
    #[must_use]
    pub fn new(
        logs: &Logs,
        log_filter: &str,
        traces: &Traces,
        clock: &SharedClock,
        lifecycle: &Lifecycle,
    ) -> Self {
        let filtered = logs.clone();
        let set_filter = move |filter: &String| {
            let log_change = || tracing::warn!(filter, "the log filter was changed");
            // Logged before the change, because the new filter can suppress the line. If the old
            // filter suppresses it, it is logged after the change.
            let is_logged = tracing::enabled!(tracing::Level::WARN);
            if is_logged {
                log_change();
            }
            filtered.set_filter(filter)?;
            if !is_logged {
                log_change();
            }
            Ok(())
        };
        let sampling = traces.sampling().clone();
        let ratio = sampling.ratio();
        let set_ratio = move |ratio: &f64| {
            tracing::warn!(ratio, "the sampling ratio of traces was changed");
            sampling.set_ratio(*ratio);
            Ok(())
        };
        Self {
            logs: logs.clone(),
            log_filter: Revertible::new(
                "log filter",
                log_filter.to_owned(),
                Box::new(set_filter),
                clock.clone(),
                lifecycle,
            ),
            trace_ratio: Revertible::new(
                "trace sampling",
                ratio,
                Box::new(set_ratio),
                clock.clone(),
                lifecycle,
            ),
        }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/log-filter", get(log_filter).put(set_log_filter))
            .route(
                "/trace-sampling",
                get(trace_sampling).put(set_trace_sampling),
            )
            .with_state(self)
    }
}

/// Stricter than the grammar of the filter, which accepts any bare word as a target. There the
/// misspelt level `inof` would be accepted and silence the process. The error names the position of
/// a wrong directive and does not repeat its text.
fn check_filter(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty; `off` writes nothing".to_owned());
    }
    // The filter splits at every comma too, even inside of a directive.
    match text.split(',').position(|text| !is_directive(text)) {
        Some(at) => Err(format!(
            "is not a log filter: directive {} is neither a level nor `target=level`",
            at + 1
        )),
        None => Ok(()),
    }
}

fn is_directive(text: &str) -> bool {
    if text.parse::<LevelFilter>().is_ok() {
        return true;
    }
    let target = text.find(['[', '=']).map(|end| &text[..end]);
    let in_target = |c: char| c.is_ascii_alphanumeric() || "_:.-".contains(c);
    target.is_some_and(|target| target.chars().all(in_target)) && text.parse::<EnvFilter>().is_ok()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFilter {
    filter: String,
    ttl: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceSampling {
    ratio: f64,
    ttl: Option<String>,
}

async fn log_filter(State(switches): State<Switches>) -> impl IntoResponse {
    state("filter", &switches.log_filter.get())
}

async fn set_log_filter(
    State(switches): State<Switches>,
    Json(body): Json<LogFilter>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let mut fields = Fields::default();
    let ttl = fields.take("ttl", validation::ttl(body.ttl.as_deref()));
    let time = fields.finish(ttl)?;
    let ttl = ttl_of(body.ttl, time);
    let set = check_filter(&body.filter).and_then(|()| switches.log_filter.set(body.filter, ttl));
    let shown = set.map_err(|message| {
        Problem::validation(vec![FieldError {
            field: "filter".to_owned(),
            code: "INVALID_FILTER",
            message: Cow::Owned(message),
        }])
    })?;
    let Json(mut state) = state("filter", &shown);
    if let (Some(hint), Value::Object(state)) = (switches.logs.hint(&shown.value), &mut state) {
        state.insert("hint".to_owned(), json!(hint));
    }
    Ok(Json(state))
}

async fn trace_sampling(State(switches): State<Switches>) -> impl IntoResponse {
    state("ratio", &switches.trace_ratio.get())
}

async fn set_trace_sampling(
    State(switches): State<Switches>,
    Json(body): Json<TraceSampling>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let mut fields = Fields::default();
    let ratio = fields.take("ratio", validation::ratio(body.ratio));
    let ttl = fields.take("ttl", validation::ttl(body.ttl.as_deref()));
    let (ratio, time) = fields.finish(ratio.zip(ttl))?;
    let shown = switches
        .trace_ratio
        .set(ratio, ttl_of(body.ttl, time))
        .map_err(|error| Problem::internal(std::io::Error::other(error)))?;
    Ok(state("ratio", &shown))
}

fn ttl_of(text: Option<String>, time: Option<std::time::Duration>) -> Option<Ttl> {
    text.zip(time).map(|(text, time)| Ttl { text, time })
}

/// The value. While a return is pending, also the time for which it was set, the time of the return
/// and the value that returns.
fn state<T: Serialize>(member: &str, shown: &SwitchState<T>) -> Json<Value> {
    let mut state = Map::new();
    state.insert(member.to_owned(), json!(shown.value));
    if let Some(then) = &shown.then {
        state.insert("ttl".to_owned(), json!(then.ttl));
        let at = then.at.format(&Rfc3339).unwrap_or_default();
        state.insert("returns_at".to_owned(), json!(at));
        state.insert("returns_to".to_owned(), json!(then.value));
    }
    Json(Value::Object(state))
}

#[cfg(test)]
mod tests {
    use super::check_filter;

    #[test]
    fn a_wrong_filter_is_named_by_its_place_and_not_repeated() {
        for good in [
            "info",
            "off",
            "WARN,request=off",
            "warn,sqlx::query=debug",
            "info,[work{worker=cleanup}]=debug",
        ] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for (bad, place) in [
            ("info,request=loud", "directive 2 "),
            ("=,info", "directive 1 "),
            ("warn, request=off", "directive 2 "),
            ("inof", "directive 1 "),
            ("debug,not a filter", "directive 2 "),
            ("info,not a=debug", "directive 2 "),
        ] {
            let error = check_filter(bad).unwrap_err();
            assert!(error.contains(place), "{bad}: {error}");
            assert!(!error.contains("loud"), "{error}");
        }
        assert!(check_filter(" ").is_err());
        assert!(check_filter("info,[work=debug").is_err());
    }
}
