//! What snapshots and backups have in common.

use std::collections::BTreeMap;

use serde::Serialize;
use stillpoint_model::name::Name;

/// What is said of a new item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ItemCreate {
    /// Its name; generated when absent, if the plan allows that.
    pub name: Option<Name>,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// What people edit on an item. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemUpdate {
    /// A new name.
    pub name: Option<Name>,
    /// A new description.
    pub description: Option<String>,
    /// All labels anew.
    pub labels: Option<BTreeMap<String, String>>,
    /// Protected items are neither deleted nor rotated.
    pub protected: Option<bool>,
}
