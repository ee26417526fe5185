//! Pages of lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// What is on this page.
    pub items: Vec<T>,
    /// What to give as `page` to get the next one; null on the last page.
    pub next_page: Option<String>,
}
