//! The addresses of the portal's pages, each written once.

use stillpoint_model::id::{
    ImageId, InstanceId, InstanceSnapshotId, OperationId, TargetId, TokenId, VaultId, VolumeId,
};
use stillpoint_model::item::{ItemKind, RestorePointId};

pub(super) fn instance(id: InstanceId) -> String {
    format!("/instances/{id}")
}

/// The tab of an instance that has its console.
pub(super) fn instance_console(id: InstanceId) -> String {
    format!("/instances/{id}/console")
}

/// A dialog about an instance.
pub(super) fn instance_dialog(id: InstanceId, dialog: &str) -> String {
    format!("/instances/{id}/{dialog}")
}

/// The dialog that detaches a volume and leads back to its instance.
pub(super) fn instance_detach(id: InstanceId, volume: VolumeId) -> String {
    format!("/instances/{id}/volumes/{volume}/detach")
}

pub(super) fn volume(id: VolumeId) -> String {
    format!("/volumes/{id}")
}

/// A tab of a volume, or a dialog about it.
pub(super) fn volume_tab(id: VolumeId, tab: &str) -> String {
    format!("/volumes/{id}/{tab}")
}

/// The list of all items of a kind.
pub(super) fn items(kind: ItemKind) -> String {
    format!("/{kind}s")
}

pub(super) fn item(id: RestorePointId) -> String {
    match id {
        RestorePointId::Snapshot(id) => format!("/snapshots/{id}"),
        RestorePointId::Backup(id) => format!("/backups/{id}"),
    }
}

/// A dialog about a snapshot or a backup.
pub(super) fn item_dialog(id: RestorePointId, dialog: &str) -> String {
    format!("{}/{dialog}", item(id))
}

pub(super) fn image(id: ImageId) -> String {
    format!("/images/{id}")
}

/// A dialog about an image.
pub(super) fn image_dialog(id: ImageId, dialog: &str) -> String {
    format!("/images/{id}/{dialog}")
}

/// An instance snapshot.
pub(super) fn instance_snapshot(id: InstanceSnapshotId) -> String {
    format!("/instance-snapshots/{id}")
}

/// A dialog about an instance snapshot.
pub(super) fn instance_snapshot_dialog(id: InstanceSnapshotId, dialog: &str) -> String {
    format!("/instance-snapshots/{id}/{dialog}")
}

/// A backup target, for operators.
pub(super) fn target(id: TargetId) -> String {
    format!("/admin/targets/{id}")
}

/// The dialog that says where a target's backups are copied to.
pub(super) fn target_copies(id: TargetId) -> String {
    format!("/admin/targets/{id}/copies")
}

/// The dialog that confirms a collection.
pub(super) fn vault_confirm(id: TargetId, vault: VaultId) -> String {
    format!("/admin/targets/{id}/vaults/{vault}/confirm")
}

pub(super) fn operation(id: OperationId) -> String {
    format!("/operations/{id}")
}

/// A dialog about an operation.
pub(super) fn operation_dialog(id: OperationId, dialog: &str) -> String {
    format!("/operations/{id}/{dialog}")
}

pub(super) fn token_revoke(id: TokenId) -> String {
    format!("/settings/tokens/{id}/revoke")
}

/// A path of ours to go to after signing in; anything else leads to the start page.
pub(super) fn local(path: &str) -> &str {
    let ours = path.starts_with('/')
        && !path.starts_with("//")
        && !path.starts_with("/sign-")
        && !path.contains(['\\', '\r', '\n']);
    if ours { path } else { "/" }
}

/// A value in a query string.
pub(super) fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A path with those of its query's values that are there.
pub(super) fn with_query(path: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let query: Vec<String> = pairs
        .iter()
        .filter_map(|(key, value)| value.map(|v| format!("{key}={}", query_value(v))))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_never_leads_elsewhere() {
        for path in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "",
            "/sign-in",
        ] {
            assert_eq!(local(path), "/", "{path:?}");
        }
        assert_eq!(local("/volumes?q=db"), "/volumes?q=db");
    }

    #[test]
    fn a_query_carries_any_text() {
        let pairs = [("q", Some("a b&c=ä")), ("cursor", None)];
        assert_eq!(
            with_query("/volumes", &pairs),
            "/volumes?q=a%20b%26c%3D%C3%A4"
        );
    }
}
