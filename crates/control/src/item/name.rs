//! The names of items: given or generated, and free where the plan wants them to be.

use stillpoint_model::Timestamp;
use stillpoint_model::id::{AccountId, VolumeId};
use stillpoint_model::item::ItemKind;
use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_item_name, first_free, generated, name_taken};
use stillpoint_model::plan::{Naming, Plan, UniqueWithin};
use stillpoint_store::Conn;
use stillpoint_store::backup::{backup_name_exists, backup_names_like};
use stillpoint_store::snapshot::{snapshot_name_exists, snapshot_names_like};

use crate::error::{Error, Result};

/// Where a name must be free.
#[derive(Clone, Copy)]
pub(crate) struct NameScope<'a> {
    kind: ItemKind,
    naming: &'a Naming,
    account_id: AccountId,
    volume_id: VolumeId,
}

impl<'a> NameScope<'a> {
    /// That of the items of this kind of an account's volume.
    pub(crate) const fn of(
        kind: ItemKind,
        plan: &'a Plan,
        account_id: AccountId,
        volume_id: VolumeId,
    ) -> Self {
        Self {
            kind,
            naming: &plan.naming,
            account_id,
            volume_id,
        }
    }

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
        let first = generated(self.kind.as_str(), now).ok_or_else(no_generated)?;
        let account_id = self.account_id;
        let taken = match self.kind {
            ItemKind::Snapshot => snapshot_names_like(conn, account_id, &first).await?,
            ItemKind::Backup => backup_names_like(conn, account_id, &first).await?,
        };
        first_free(first, &taken).ok_or_else(no_generated)
    }
}

/// What a generated name that is none comes to: our prefixes are names.
pub(crate) fn no_generated() -> Error {
    Error::Inconsistent("no name could be generated".to_owned())
}
