//! Keyset pages of a list in the order of its ids, independent of the protocol.
//!
//! The position of a page is the id of an item instead of an offset, so that pages stay correct
//! while rows are added and removed. Ids are UUIDv7, so their order is the order of time. Clients
//! get the position as an opaque cursor: `next_cursor` in JSON, `page_token` in gRPC.
//!
//! ```
//! use request::page::PageRequest;
//! use uuid::Uuid;
//!
//! let page = PageRequest::new(Some(2), None)?;
//! // A store returns one item more than the page, if there is one.
//! let newest_first = [3, 2, 1].map(Uuid::from_u128).to_vec();
//! let page = page.page(newest_first, |id| *id);
//! assert_eq!(page.items.len(), 2);
//!
//! let cursor = page.next_cursor().expect("there is a next page");
//! let next = PageRequest::new(Some(2), Some(&cursor))?;
//! assert_eq!(next.after, Some(Uuid::from_u128(2)));
//! # Ok::<(), request::page::InvalidPage>(())
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use uuid::Uuid;

/// Items in a page when the client sets no limit.
pub const DEFAULT_LIMIT: u32 = 20;
/// Maximum items in a page.
pub const MAX_LIMIT: u32 = 100;

/// A checked request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Maximum number of items.
    pub limit: u32,
    /// Only items that follow this one in the order of the list. `None` for the first page.
    pub after: Option<Uuid>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Position of the next page: the id of the last item. `None` at the end of the list.
    pub next: Option<Uuid>,
}

/// The reason why a request for a page is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPage {
    /// The limit is 0 or above [`MAX_LIMIT`].
    #[error("the limit is out of range")]
    Limit,
    /// The cursor was not made by [`Page::next_cursor`].
    #[error("the cursor is malformed")]
    Cursor,
}

impl PageRequest {
    /// Checks what the client sent. Without a limit it is [`DEFAULT_LIMIT`].
    ///
    /// # Errors
    /// The value that is invalid.
    pub fn new(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, InvalidPage> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(InvalidPage::Limit);
        }
        let after = cursor.map(decode_cursor).transpose()?;
        Ok(Self { limit, after })
    }

    /// Number of items that a store fetches. It is one more than the page, to show whether there is
    /// a next page.
    #[must_use]
    pub fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Makes the page of the items that the store found with [`PageRequest::fetch`].
    #[must_use]
    pub fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_next = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_next).map(id);
        Page { items, next }
    }
}

impl<T> Page<T> {
    /// Cursor of the next page. `None` at the end of the list.
    #[must_use]
    pub fn next_cursor(&self) -> Option<String> {
        self.next.map(|id| BASE64URL.encode(id.as_bytes()))
    }
}

fn decode_cursor(text: &str) -> Result<Uuid, InvalidPage> {
    let bytes = BASE64URL.decode(text).map_err(|_| InvalidPage::Cursor)?;
    Uuid::from_slice(&bytes).map_err(|_| InvalidPage::Cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_a_page_names_its_last_item() {
        let ids: Vec<Uuid> = (1..=4).rev().map(Uuid::from_u128).collect();
        let request = PageRequest::new(Some(3), None).unwrap();
        let page = request.page(ids.clone(), |id| *id);
        assert_eq!(page.items, ids[..3]);
        let next = PageRequest::new(Some(3), page.next_cursor().as_deref()).unwrap();
        assert_eq!(next.after, Some(ids[2]));
        let last = request.page(ids[..3].to_vec(), |id| *id);
        assert_eq!(last.next_cursor(), None);
    }

    /// Clients keep cursors over updates of the service.
    #[test]
    fn cursors_keep_their_form() {
        let page = Page {
            items: Vec::<Uuid>::new(),
            next: Some(Uuid::from_u128(0x0193_ff0e_fb5a_7c3e_8f4d_2a1b_3c4d_5eff)),
        };
        assert_eq!(page.next_cursor().unwrap(), "AZP_DvtafD6PTSobPE1e_w");
    }

    #[test]
    fn limits_and_cursors_have_bounds() {
        for limit in [0, MAX_LIMIT + 1] {
            let invalid = PageRequest::new(Some(limit), None);
            assert_eq!(invalid, Err(InvalidPage::Limit), "{limit}");
        }
        for cursor in ["", "x", "AAAA", "not base64!"] {
            let invalid = PageRequest::new(None, Some(cursor));
            assert_eq!(invalid, Err(InvalidPage::Cursor), "{cursor}");
        }
        let default = PageRequest::new(None, None).unwrap();
        assert_eq!((default.limit, default.after), (DEFAULT_LIMIT, None));
    }
}
