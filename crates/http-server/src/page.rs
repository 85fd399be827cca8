//! Keyset pages: `?limit=&cursor=` returns `{items, next_cursor}`.
//!
//! A cursor names the last item of a page instead of an offset, so that pages stay correct while
//! rows are added and removed. Ids are UUIDv7, so their order is the order of time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use request::Problem;
use request::problem::codes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Items in a page when the client sets no limit.
pub const DEFAULT_LIMIT: u32 = 20;
/// Maximum items in a page.
pub const MAX_LIMIT: u32 = 100;

/// The query parameters of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Maximum number of items: 1 to 100, 20 by default.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

/// A checked request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Maximum number of items.
    pub limit: u32,
    /// Only items before this one, newest first.
    pub before: Option<Uuid>,
}

/// A page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page. Null at the end.
    pub next_cursor: Option<String>,
}

impl PageQuery {
    /// Checks limit and cursor.
    ///
    /// # Errors
    /// `INVALID_QUERY` or `INVALID_CURSOR`.
    pub fn parse(self) -> Result<PageRequest, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::new(
                codes::INVALID_QUERY,
                "limit must lie between 1 and 100.",
            ));
        }
        let before = self.cursor.as_deref().map(read_cursor).transpose()?;
        Ok(PageRequest { limit, before })
    }
}

impl PageRequest {
    /// Number of items that a store fetches. It is one more than the page, to show whether there is
    /// a next page.
    #[must_use]
    pub fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Makes the page of the items that the store found with [`PageRequest::fetch`].
    pub fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|last| BASE64URL.encode(id(last).as_bytes()));
        Page { items, next_cursor }
    }
}

impl<T> Page<T> {
    /// Converts the items of a page.
    pub fn map<U>(self, shape: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(shape).collect(),
            next_cursor: self.next_cursor,
        }
    }
}

fn read_cursor(text: &str) -> Result<Uuid, Problem> {
    BASE64URL
        .decode(text)
        .ok()
        .and_then(|bytes| Uuid::from_slice(&bytes).ok())
        .ok_or_else(|| Problem::new(codes::INVALID_CURSOR, "The cursor is not one of this list."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_a_page_names_its_last_item() {
        let ids: Vec<Uuid> = (1..=4).rev().map(Uuid::from_u128).collect();
        let request = PageRequest {
            limit: 3,
            before: None,
        };
        let page = request.page(ids.clone(), |id| *id);
        assert_eq!(page.items, ids[..3]);
        let query = PageQuery {
            limit: Some(3),
            cursor: page.next_cursor,
        };
        assert_eq!(query.parse().unwrap().before, Some(ids[2]));
        assert_eq!(request.page(ids[..3].to_vec(), |id| *id).next_cursor, None);
    }

    #[test]
    fn limits_and_cursors_have_bounds() {
        for limit in [0, 101] {
            assert!(
                PageQuery {
                    limit: Some(limit),
                    cursor: None
                }
                .parse()
                .is_err()
            );
        }
        for cursor in ["", "x", "AAAA", "not base64!"] {
            assert!(
                PageQuery {
                    limit: None,
                    cursor: Some(cursor.to_owned())
                }
                .parse()
                .is_err()
            );
        }
    }
}
