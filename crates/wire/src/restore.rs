//! Restores.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::item::ItemKind;

/// Where a restore goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMode {
    /// A new volume; the source stays as it is.
    NewVolume,
    /// The volume that the restore point was made of is overwritten.
    InPlace,
}

/// A restore point, by kind and by id or name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSource {
    /// Snapshot or backup.
    pub kind: ItemKind,
    /// Its id or its name.
    pub item: String,
}

/// A request for a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreCreate {
    /// What to restore.
    pub source: RestoreSource,
    /// Where to.
    pub mode: RestoreMode,
    /// The new volume's name; generated when absent. Only with `new_volume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The new volume's pool, by id or name; that of the source when absent. Only with
    /// `new_volume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Have the new volume usable at once: it shows the backup, and is filled from it while it is
    /// used. Until it is whole nothing can be made of it. One of a snapshot is whole at once in any
    /// case. Only with `new_volume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instant: Option<bool>,
    /// The name of the volume that will be overwritten, typed. Only with `in_place`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}
