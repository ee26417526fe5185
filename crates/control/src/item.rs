//! What snapshots and backups have in common: how they are listed and shown, edited, deleted and
//! named. What differs each says of itself, by [`kind::Item`].

use std::collections::BTreeMap;

use serde::Serialize;
use stillpoint_model::name::Name;
use stillpoint_model::naming::check_texts;
use stillpoint_model::refusal::Refusal;

use crate::error::Result;
use crate::{ListQuery, Reference};

pub(crate) mod change;
pub(crate) mod kind;
pub(crate) mod name;
pub(crate) mod show;

/// Which snapshots, or which backups.
#[derive(Clone, Debug, Default)]
pub struct ItemQuery {
    /// Which page.
    pub page: ListQuery,
    /// Only those of this volume, which may be gone when it is named by its id.
    pub volume: Option<Reference>,
}

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

impl ItemUpdate {
    /// Whether the texts in it fit.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let none = BTreeMap::new();
        check_texts(
            self.description.as_deref().unwrap_or_default(),
            self.labels.as_ref().unwrap_or(&none),
        )
    }

    /// What changes, in words, for the audit.
    pub(crate) fn words(&self) -> String {
        let changed = [
            self.name.is_some().then_some("name"),
            self.description.is_some().then_some("description"),
            self.labels.is_some().then_some("labels"),
            self.protected
                .map(|on| if on { "protected" } else { "not protected" }),
        ];
        changed.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
