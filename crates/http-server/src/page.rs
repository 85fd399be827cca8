//! Pages over HTTP: `?limit=&cursor=` returns `{items, next_cursor}`. The rules of pages and
//! cursors are in [`request::page`].

use request::Problem;
use request::page::{InvalidPage, Page, PageRequest};
use request::problem::codes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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

impl PageQuery {
    /// Checks limit and cursor.
    ///
    /// # Errors
    /// `INVALID_QUERY` or `INVALID_CURSOR`.
    pub fn parse(&self) -> Result<PageRequest, Problem> {
        PageRequest::new(self.limit, self.cursor.as_deref()).map_err(|invalid| match invalid {
            InvalidPage::Limit => {
                Problem::new(codes::INVALID_QUERY, "limit must lie between 1 and 100.")
            }
            InvalidPage::Cursor => Problem::new(
                codes::INVALID_CURSOR,
                "The cursor does not belong to this list.",
            ),
        })
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub struct PageBody<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page. Null at the end.
    pub next_cursor: Option<String>,
}

impl<T, Body: From<T>> From<Page<T>> for PageBody<Body> {
    fn from(page: Page<T>) -> Self {
        Self {
            next_cursor: page.next_cursor(),
            items: page.items.into_iter().map(Body::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(limit: Option<u32>, cursor: Option<&str>) -> PageQuery {
        PageQuery {
            limit,
            cursor: cursor.map(str::to_owned),
        }
    }

    #[test]
    fn invalid_parameters_have_problems_of_their_own() {
        let code = |query: PageQuery| query.parse().unwrap_err().code;
        assert_eq!(code(query(Some(0), None)), codes::INVALID_QUERY);
        assert_eq!(code(query(Some(101), None)), codes::INVALID_QUERY);
        assert_eq!(code(query(None, Some("AAAA"))), codes::INVALID_CURSOR);
    }

    #[test]
    fn a_page_is_items_and_the_cursor_of_the_next_page() {
        let newest_first = [2, 1].map(uuid::Uuid::from_u128).to_vec();
        let request = query(Some(1), None).parse().unwrap();
        let page = request.page(newest_first, |id| *id);
        let body = PageBody::<String>::from(Page {
            items: vec!["second".to_owned()],
            next: page.next,
        });
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"items":["second"],"next_cursor":"AAAAAAAAAAAAAAAAAAAAAg"}"#
        );
        let end = PageBody::<String>::from(Page::<String> {
            items: Vec::new(),
            next: None,
        });
        assert_eq!(
            serde_json::to_string(&end).unwrap(),
            r#"{"items":[],"next_cursor":null}"#
        );
    }
}
