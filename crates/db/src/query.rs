//! The query that runs on this task: the connection that it returned, and the fault of its session.

use std::cell::RefCell;

use crate::fault::{Fault, Reason};

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
    fault: Option<Reason>,
    /// The query runs once more if its plan is stale.
    repeats: bool,
}

tokio::task_local! {
    static QUERY: RefCell<Query>;
}

/// Accesses the query that runs on this task, if there is one.
fn of_query<T>(with: impl FnOnce(&mut Query) -> T) -> Option<T> {
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
pub(crate) fn leave(returned: Box<dyn ReturnedConnection>) -> Option<Box<dyn ReturnedConnection>> {
    let mut returned = Some(returned);
    of_query(|query| {
        if query.returned.is_none() {
            query.returned = returned.take();
        }
    });
    returned
}

/// Records the fault of the session that the running query holds. The first fault counts, because
/// later ones follow from it.
pub(crate) fn remember(fault: Fault) {
    if let Fault::Session(reason) = fault {
        of_query(|query| {
            query.fault.get_or_insert(reason);
        });
    }
}

/// The reason why the session of the running query is no longer usable.
pub(crate) fn fault() -> Option<Reason> {
    of_query(|query| query.fault).flatten()
}

/// Returns true if the running query runs once more after this fault.
pub(crate) fn repeats(fault: Fault) -> bool {
    fault == Fault::Session(Reason::StalePlan) && of_query(|query| query.repeats) == Some(true)
}

/// Runs a query and decides about its connection. The connection is kept if the query ends well. It
/// has to pass a check if the query fails or is cancelled. It is closed if the session caused the
/// failure.
pub(crate) async fn run<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    attempt(work, false).await.0
}

/// Runs a query, and once more on another session if its plan was stale.
pub(crate) async fn run_again<T, E, F>(work: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    match attempt(work(), true).await {
        // Boxed, because it is seldom needed.
        (Err(_), Some(Reason::StalePlan)) => Box::pin(run(work())).await,
        (result, _) => result,
    }
}

async fn attempt<T, E>(
    work: impl Future<Output = Result<T, E>>,
    repeats: bool,
) -> (Result<T, E>, Option<Reason>) {
    let query = Query {
        repeats,
        ..Query::default()
    };
    QUERY
        .scope(RefCell::new(query), async {
            let result = work.await;
            let (returned, fault) =
                of_query(|query| (query.returned.take(), query.fault)).unwrap_or_default();
            if let (Ok(_), Some(returned)) = (&result, returned) {
                returned.keep();
            }
            (result, fault)
        })
        .await
}
