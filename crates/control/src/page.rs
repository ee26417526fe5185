//! Pages of lists: newest first, by a key that stays put while others are added.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stillpoint_model::Timestamp;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_store::page::PageKey;
use uuid::Uuid;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it, newest first.
    pub items: Vec<T>,
    /// Where the next page begins; none after the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of rows that were read with one to spare, which says whether more follow.
    pub(crate) fn of(mut items: Vec<T>, query: &ListQuery, key: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}

/// Where a page begins: after the item with this key. Outside it is opaque text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    created_at: Timestamp,
    id: Uuid,
}

impl Cursor {
    /// The cursor after this item.
    pub(crate) const fn after(created_at: Timestamp, id: Uuid) -> Self {
        Self { created_at, id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.created_at.as_micros().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is no cursor that this server handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Not a cursor. Use `next_page` of the page before, as it is.")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() != 32 {
            return Err(InvalidCursor);
        }
        let mut bytes = [0; 24];
        let len = URL_SAFE_NO_PAD
            .decode_slice(text, &mut bytes)
            .map_err(|_| InvalidCursor)?;
        let (micros, id) = bytes.split_first_chunk::<8>().ok_or(InvalidCursor)?;
        if len != 24 {
            return Err(InvalidCursor);
        }
        Ok(Self {
            created_at: Timestamp::from_micros(i64::from_be_bytes(*micros)),
            id: Uuid::from_slice(id).map_err(|_| InvalidCursor)?,
        })
    }
}

/// Which page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Where it begins; at the newest when absent.
    pub cursor: Option<Cursor>,
    /// How many items it has at most, 1 to [`ListQuery::MAX`].
    pub limit: u32,
}

impl ListQuery {
    /// The length of a page when nobody asked for one.
    pub const DEFAULT: u32 = 50;
    /// The longest page.
    pub const MAX: u32 = 500;

    /// Reads what a request said.
    pub fn new(cursor: Option<&str>, limit: Option<u32>) -> Result<Self, Refusal> {
        let limit = limit.unwrap_or(Self::DEFAULT);
        if !(1..=Self::MAX).contains(&limit) {
            let text = format!("A page has 1 to {} items.", Self::MAX);
            return Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/limit"));
        }
        let cursor = cursor
            .map(str::parse)
            .transpose()
            .map_err(|e: InvalidCursor| {
                Refusal::new(ProblemCode::InvalidRequest, e.to_string()).at("/cursor")
            })?;
        Ok(Self { cursor, limit })
    }

    /// What the store reads: one more than the page has.
    pub(crate) fn key(&self) -> PageKey {
        PageKey {
            after: self.cursor.map(|c| (c.created_at, c.id)),
            limit: self.limit.clamp(1, Self::MAX) + 1,
        }
    }
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            cursor: None,
            limit: Self::DEFAULT,
        }
    }
}
