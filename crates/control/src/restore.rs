//! Restores: to a new volume, or back in place.

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::item::ItemKind;
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::{Answer, Change, Context, Reference};

/// A snapshot or a backup, by id or name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestorePointRef {
    /// Which of the two.
    pub kind: ItemKind,
    /// Its id or name.
    pub item: Reference,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMode {
    /// A new volume; the source stays as it is.
    NewVolume {
        /// Its name; generated when absent.
        name: Option<Name>,
        /// Its pool; that of the source when absent.
        pool: Option<Reference>,
    },
    /// The volume that the restore point was made of is put back.
    InPlace {
        /// The volume's name, typed, where the plan asks for that.
        confirm: Option<String>,
    },
}

/// A request for a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreCreate {
    /// What to restore.
    pub source: RestorePointRef,
    /// Where to.
    pub mode: RestoreMode,
}

/// Restores a snapshot or a backup.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    request: RestoreCreate,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, request, change);
    todo!()
}
