//! The answer at paths without a route.

use request::Problem;
use request::problem::codes;

/// Also the answer in place of routes that are hidden.
pub(crate) fn not_found() -> Problem {
    Problem::new(codes::NOT_FOUND, "There is nothing at this path.")
}
