//! Typed ids. Every id is a UUID of version 7, so that ids sort by age.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Env;

/// The text is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: an id looks like 0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10")]
pub struct InvalidId;

/// A new UUID of version 7 (RFC 9562): the time in milliseconds, then random bits.
fn generate_uuid(env: &dyn Env) -> Uuid {
    let millis = u64::try_from(env.now().as_micros() / 1000).unwrap_or(0);
    let mut random = [0; 10];
    env.fill_random(&mut random);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// An id that was never used before.
            pub fn generate(env: &dyn Env) -> Self {
                Self(generate_uuid(env))
            }

            /// The id that this UUID is.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID behind the id.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Takes the 36-character form alone, so that an id has one spelling.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(InvalidId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }
    )*};
}

ids! {
    /// A customer.
    AccountId;
    /// A person or a program that acts for an account.
    UserId;
    /// An API token.
    TokenId;
    /// A browser session.
    SessionId;
    /// A group of resources in an account.
    ProjectId;
    /// Where things are.
    RegionId;
    /// A hypervisor host.
    NodeId;
    /// Storage that holds volumes.
    PoolId;
    /// Where backups go.
    TargetId;
    /// A virtual machine.
    InstanceId;
    /// A block device of one pool.
    VolumeId;
    /// One immutable or active file in a pool's tree.
    LayerId;
    /// A point in time of one volume, on its own storage.
    SnapshotId;
    /// An independent copy of a volume in a backup target.
    BackupId;
    /// A bootable template that new volumes start as.
    ImageId;
    /// A point in time of a whole instance.
    InstanceSnapshotId;
    /// A versioned set of rules and prices.
    PlanId;
    /// One accepted request that takes time.
    OperationId;
    /// One piece of an operation's work, done by a node.
    TaskId;
    /// One vault: the repository of an account in a target.
    VaultId;
    /// One attempt to write a backup into a vault; what it writes carries this id.
    RunId;
    /// One HTTP request, for support.
    RequestId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let text = "0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10";
        assert_eq!(
            text.parse::<VolumeId>().map(|id| id.to_string()),
            Ok(text.to_owned())
        );
        for other in [
            "0193B5A2-7C1E-7D4F-9A51-0C2D6D5E8F10",
            "0193b5a27c1e7d4f9a510c2d6d5e8f10",
            "{0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10}",
            "urn:uuid:0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10",
            "",
        ] {
            assert_eq!(other.parse::<VolumeId>(), Err(InvalidId), "{other}");
        }
    }
}
