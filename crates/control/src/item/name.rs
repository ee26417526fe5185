//! The names of items: given or generated, and free where the plan wants them to be.

use stillpoint_model::Timestamp;
use stillpoint_model::id::{AccountId, VolumeId};
use stillpoint_model::item::ItemKind;
use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_item_name, generated, name_taken};
use stillpoint_model::plan::{Naming, Plan, UniqueWithin};
use stillpoint_store::Conn;
use stillpoint_store::backup::backup_name_exists;
use stillpoint_store::snapshot::snapshot_name_exists;

use crate::error::{Error, Result};

/// How many names of one second are tried.
pub(crate) const GENERATED_TRIES: u32 = 10_000;

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
