//! What snapshots and backups have in common.

use std::collections::BTreeMap;

use serde::Serialize;
use stillpoint_model::id::{AccountId, VolumeId};
use stillpoint_model::item::ItemKind;
use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_item_name, check_texts, generated, name_taken};
use stillpoint_model::plan::{Naming, UniqueWithin};
use stillpoint_model::{Timestamp, refusal::Refusal};
use stillpoint_store::Conn;
use stillpoint_store::backup::backup_name_exists;
use stillpoint_store::snapshot::snapshot_name_exists;

use crate::error::{Error, Result};

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

/// Where a name must be free.
#[derive(Clone, Copy)]
pub(crate) struct NameScope<'a> {
    pub(crate) kind: ItemKind,
    pub(crate) naming: &'a Naming,
    pub(crate) account_id: AccountId,
    pub(crate) volume_id: VolumeId,
}

impl NameScope<'_> {
    async fn is_taken(&self, conn: &mut Conn, name: &Name, within: UniqueWithin) -> Result<bool> {
        let volume_id = match within {
            UniqueWithin::None => return Ok(false),
            UniqueWithin::Volume => Some(self.volume_id),
            UniqueWithin::Account => None,
        };
        Ok(match self.kind {
            ItemKind::Snapshot => {
                snapshot_name_exists(conn, self.account_id, volume_id, name).await?
            }
            ItemKind::Backup => backup_name_exists(conn, self.account_id, volume_id, name).await?,
        })
    }

    /// Refuses a name that the plan does not allow, or that something else has.
    pub(crate) async fn check(&self, conn: &mut Conn, name: &Name) -> Result<()> {
        check_item_name(self.naming, Some(name))?;
        if self.is_taken(conn, name, self.naming.unique_within).await? {
            return Err(name_taken(self.kind.as_str(), name).into());
        }
        Ok(())
    }

    /// The given name, checked, or a generated one that is free in the whole account, so that it
    /// works as a reference.
    pub(crate) async fn choose(
        &self,
        conn: &mut Conn,
        given: Option<Name>,
        now: Timestamp,
    ) -> Result<Name> {
        if let Some(name) = given {
            self.check(conn, &name).await?;
            return Ok(name);
        }
        check_item_name(self.naming, None)?;
        for nth in 1..=GENERATED_TRIES {
            let Some(name) = generated(self.kind.as_str(), now, nth) else {
                break;
            };
            if !self.is_taken(conn, &name, UniqueWithin::Account).await? {
                return Ok(name);
            }
        }
        Err(Error::Inconsistent("no generated name is free".to_owned()))
    }
}

/// How many names of one second are tried.
pub(crate) const GENERATED_TRIES: u32 = 10_000;
