//! The first rows of an installation.

use stillpoint_model::account::Actor;
use stillpoint_model::id::{NodeId, PoolId, RegionId, TargetId};
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::{Context, Secret};

/// What an installation consists of. Things are found by their names; what exists stays as it is.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The region's name.
    pub region: Name,
    /// The node's name.
    pub node: Name,
    /// The pool.
    pub pool: PoolSetup,
    /// The backup target; none leaves backups refused with `no_backup_target`.
    pub target: Option<TargetSetup>,
    /// The account and the login of the operator.
    pub administrator: AccountSetup,
    /// The demo tenant.
    pub tenant: Option<AccountSetup>,
}

/// A pool to have.
#[derive(Clone, Debug)]
pub struct PoolSetup {
    /// Its name.
    pub name: Name,
    /// What kind of storage it is, such as `qcow2`.
    pub driver: String,
    /// Whether it can capture a volume while an instance that runs has it open.
    pub live_capture: bool,
}

/// A backup target to have.
#[derive(Clone, Debug)]
pub struct TargetSetup {
    /// Its name.
    pub name: Name,
    /// What kind of storage it is, such as `local`.
    pub driver: String,
}

/// An account to have, with one user.
#[derive(Clone, Debug)]
pub struct AccountSetup {
    /// The account's name.
    pub account: Name,
    /// What the user signs in with.
    pub login: String,
    /// The password of a user that is made now; that of one who exists stays as it is.
    pub password: Secret,
}

/// What is there now.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The region.
    pub region_id: RegionId,
    /// The node.
    pub node_id: NodeId,
    /// The pool.
    pub pool_id: PoolId,
    /// The backup target.
    pub target_id: Option<TargetId>,
    /// The operator.
    pub administrator: InstalledUser,
    /// The demo tenant.
    pub tenant: Option<InstalledUser>,
}

/// A user that is there now.
#[derive(Clone, Debug)]
pub struct InstalledUser {
    /// Who acts when this user does.
    pub actor: Actor,
    /// Whether it was made just now, with the given password.
    pub created: bool,
}

/// Makes what is missing. Safe to repeat, at each start.
pub async fn ensure_installation(
    cx: &Context,
    installation: &Installation,
) -> Result<Installed> {
    let _ = (cx, installation);
    todo!()
}
