//! The query that runs on this task: the connection that it has given back, and what an
//! error has said of its session.

use std::cell::RefCell;

use crate::fault::{Fault, Reason};

/// A connection that a query has given back before it is known how the query ended.
pub(crate) trait Returned: Send {
    /// It ended well: the connection is at rest.
    fn keep(self: Box<Self>);
}

/// What is known of the query that runs on this task.
#[derive(Default)]
struct Query {
    returned: Option<Box<dyn Returned>>,
    /// Why its session is of no further use.
    fault: Option<Reason>,
    /// It is done once more when its plan is stale.
    repeats: bool,
}

tokio::task_local! {
    static QUERY: RefCell<Query>;
}

/// Asks or tells the query that is running on this task, if one is.
fn of_query<T>(with: impl FnOnce(&mut Query) -> T) -> Option<T> {
    let with = |query: &RefCell<Query>| {
        query
            .try_borrow_mut()
            .ok()
            .map(|mut query| with(&mut query))
    };
    QUERY.try_with(with).ok().flatten()
}

/// Leaves a connection to the query that is running on this task; returns it when
/// none is, or when another one is there already.
pub(crate) fn leave(returned: Box<dyn Returned>) -> Option<Box<dyn Returned>> {
    let mut returned = Some(returned);
    of_query(|query| {
        if query.returned.is_none() {
            query.returned = returned.take();
        }
    });
    returned
}

/// Notes what an error says about the session that the running query holds; the first
/// fault counts, the others follow from it.
pub(crate) fn remember(fault: Fault) {
    if let Fault::Session(reason) = fault {
        of_query(|query| {
            query.fault.get_or_insert(reason);
        });
    }
}

/// Why the session of the running query is of no further use.
pub(crate) fn fault() -> Option<Reason> {
    of_query(|query| query.fault).flatten()
}

/// Whether the running query is done once more after this fault.
pub(crate) fn repeats(fault: Fault) -> bool {
    fault == Fault::Session(Reason::StalePlan) && of_query(|query| query.repeats) == Some(true)
}

/// Runs a query. When it ends well, its connection is kept; when it fails, or is given
/// up in the middle, the connection has to prove itself; when the failure was the
/// session's, it is closed.
pub(crate) async fn run<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    attempt(work, false).await.0
}

/// Runs a query, and once more on another session when its plan was stale.
pub(crate) async fn run_again<T, E, F>(work: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    match attempt(work(), true).await {
        // Boxed: seldom needed.
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
