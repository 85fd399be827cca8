//! The query that runs on this task: the connection that it returned, and the fault of its session.

use std::cell::RefCell;

use crate::fault::{DiscardReason, Fault};

/// A connection that was returned before its query has ended.
pub(crate) trait ReturnedConnection: Send {
    /// Keeps the connection. The query ended well, so no answer is pending on it.
    fn keep(self: Box<Self>);
}

/// State of the query that runs on this task.
#[derive(Default)]
struct Query {
    returned: Option<Box<dyn ReturnedConnection>>,
    /// The reason why its session is no longer usable.
    fault: Option<DiscardReason>,
    /// The query runs once more if its plan is stale.
    retries_stale_plan: bool,
}

tokio::task_local! {
    static QUERY: RefCell<Query>;
}

/// Accesses the query that runs on this task, if there is one.
fn with_current_query<T>(with: impl FnOnce(&mut Query) -> T) -> Option<T> {
    let with = |query: &RefCell<Query>| {
        query
            .try_borrow_mut()
            .ok()
            .map(|mut query| with(&mut query))
    };
    QUERY.try_with(with).ok().flatten()
}

/// Hands a connection to the query that runs on this task. It is returned if no query runs, or if
/// the query already holds one.
pub(crate) fn hand_over(
    returned: Box<dyn ReturnedConnection>,
) -> Option<Box<dyn ReturnedConnection>> {
    let mut returned = Some(returned);
    with_current_query(|query| {
        if query.returned.is_none() {
            query.returned = returned.take();
        }
    });
    returned
}

/// Records the fault of the session that the running query holds. The first fault counts, because
/// later ones follow from it.
pub(crate) fn record_fault(fault: Fault) {
    if let Fault::Session(reason) = fault {
        with_current_query(|query| {
            query.fault.get_or_insert(reason);
        });
    }
}

/// The reason why the session of the running query is no longer usable.
pub(crate) fn session_fault() -> Option<DiscardReason> {
    with_current_query(|query| query.fault).flatten()
}

/// Returns true if the running query is run once more after this fault.
pub(crate) fn is_retried_after(fault: Fault) -> bool {
    fault == Fault::Session(DiscardReason::StalePlan)
        && with_current_query(|query| query.retries_stale_plan) == Some(true)
}

/// Runs a query and decides about its connection. The connection is kept if the query ends well. It
/// has to pass a check if the query fails or is cancelled. It is closed if the session caused the
/// failure.
pub(crate) async fn run<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    attempt(work, false).await.0
}

/// Runs a query, and once more on another session if its plan was stale.
pub(crate) async fn run_with_retry<T, E, F>(work: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    match attempt(work(), true).await {
        // Boxed, because it is seldom needed.
        (Err(_), Some(DiscardReason::StalePlan)) => Box::pin(run(work())).await,
        (result, _) => result,
    }
}

async fn attempt<T, E>(
    work: impl Future<Output = Result<T, E>>,
    retries_stale_plan: bool,
) -> (Result<T, E>, Option<DiscardReason>) {
    let query = Query {
        retries_stale_plan,
        ..Query::default()
    };
    QUERY
        .scope(RefCell::new(query), async {
            let result = work.await;
            let (returned, fault) =
                with_current_query(|query| (query.returned.take(), query.fault))
                    .unwrap_or_default();
            if let (Ok(_), Some(returned)) = (&result, returned) {
                returned.keep();
            }
            (result, fault)
        })
        .await
}
