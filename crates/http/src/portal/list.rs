//! What a list's address says: which page, and which filters.

use serde::Deserialize;
use stillpoint_control::{Error, ListQuery, Page as Rows};
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::error::Failure;
use super::paths;
use super::session::Viewer;

/// How many rows a page of the portal has.
const ROWS: u32 = 25;

/// What a search for one thing found: it, or nothing.
pub(super) fn found<T>(viewer: &Viewer, found: Result<T, Error>) -> Result<Rows<T>, Failure> {
    let items = match found {
        Ok(view) => vec![view],
        Err(error) if error.refusal().code == ProblemCode::NotFound => Vec::new(),
        Err(error) => return Err(viewer.sorry(&error)),
    };
    Ok(Rows { items, next: None })
}

/// The query of every list. An empty field of a form means no filter.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ListParams {
    pub(super) cursor: Option<String>,
    pub(super) state: Option<String>,
    pub(super) volume: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) q: Option<String>,
    pub(super) accounts: Option<String>,
}

fn given(field: Option<&String>) -> Option<&str> {
    field
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

impl ListParams {
    pub(super) fn page(&self) -> Result<ListQuery, Refusal> {
        ListQuery::new(given(self.cursor.as_ref()), Some(ROWS))
    }

    pub(super) fn state(&self) -> Option<&str> {
        given(self.state.as_ref())
    }

    pub(super) fn volume(&self) -> Option<&str> {
        given(self.volume.as_ref())
    }

    /// Operations are of a volume or of an instance, never both.
    pub(super) fn instance(&self) -> Option<&str> {
        given(self.instance.as_ref()).filter(|_| self.volume().is_none())
    }

    pub(super) fn search(&self) -> Option<&str> {
        given(self.q.as_ref())
    }

    /// Whether an administrator wants to see every account's.
    pub(super) fn all_accounts(&self) -> bool {
        given(self.accounts.as_ref()) == Some("all")
    }

    /// Whether anything but the page is chosen.
    pub(super) fn is_filtered(&self) -> bool {
        let narrowed = [self.state(), self.volume(), self.instance(), self.search()];
        narrowed.iter().any(Option::is_some)
    }

    fn path(&self, base: &str, cursor: Option<&str>) -> String {
        let pairs = [
            ("q", self.search()),
            ("state", self.state()),
            ("volume", self.volume()),
            ("instance", self.instance()),
            ("accounts", given(self.accounts.as_ref())),
            ("cursor", cursor),
        ];
        paths::with_query(base, &pairs)
    }

    /// The address of the first page, unless this is it.
    pub(super) fn first(&self, base: &str) -> Option<String> {
        given(self.cursor.as_ref()).map(|_| self.path(base, None))
    }

    /// The address of the page that begins at `cursor`.
    pub(super) fn next(&self, base: &str, cursor: Option<String>) -> Option<String> {
        cursor.map(|cursor| self.path(base, Some(&cursor)))
    }
}
