//! That nothing is left of work that is over: no lock, no file, no object, in both directions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use stillpoint_client::{ListQuery, OperationFilter, every_page};
use stillpoint_env::SystemEnv;
use stillpoint_model::Env;
use stillpoint_vault::target::{LocalTarget, Target};
use stillpoint_vault::{RootKey, rescue};

use crate::person::Person;
use crate::server::Server;
use crate::wait::{PATIENCE, until};

/// Waits until the pool and the target hold what is needed and nothing else, no volume is locked
/// and nothing is in flight.
///
/// # Panics
/// With what is left over, when it stays.
#[track_caller]
pub fn no_leftovers(server: &Server, tenant: &Person) {
    until(PATIENCE, "the end of every operation", || idle(tenant));
    until(PATIENCE, "a pool without leftovers", || {
        pool_is_exact(server)
    });
    until(PATIENCE, "a target without leftovers", || {
        target_is_exact(server)
    });
    until(PATIENCE, "an empty folder of uploads", || {
        let left = file_names(&server.data().join("uploads"));
        none_of("uploads", &left)
    });
}

fn idle(tenant: &Person) -> Result<(), String> {
    let filter = OperationFilter {
        in_flight: Some(true),
        ..OperationFilter::default()
    };
    let query = ListQuery::default();
    let running = tenant.get(async |client| client.operation_list(&filter, &query).await);
    if let Some(operation) = running.items.first() {
        return Err(format!("{operation:?}"));
    }
    let volumes =
        tenant.get(async |client| every_page(async |page| client.volume_list(&page).await).await);
    match volumes
        .iter()
        .find(|volume| volume.active_operation.is_some())
    {
        Some(locked) => Err(format!("locked: {locked:?}")),
        None => Ok(()),
    }
}

/// Each layer file is reachable from a volume's record, and each record's layers are there.
fn pool_is_exact(server: &Server) -> Result<(), String> {
    let pool = server.pool();
    let there: BTreeSet<String> = pool.layer_files().into_iter().collect();
    let needed = pool.needed_layers()?;
    none_of(
        "layers that nothing needs",
        &there.difference(&needed).collect::<Vec<_>>(),
    )?;
    none_of(
        "layers that are missing",
        &needed.difference(&there).collect::<Vec<_>>(),
    )?;
    let temporary: Vec<String> = file_names(&server.data().join("pool/volumes"))
        .into_iter()
        .filter(|name| !name.ends_with(".json"))
        .collect();
    none_of("temporary files", &temporary)
}

/// Each object is named by a manifest.
fn target_is_exact(server: &Server) -> Result<(), String> {
    let data = server.data();
    let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
    let key = RootKey::load(&data.join("keys/root.key")).map_err(|e| e.to_string())?;
    let target = LocalTarget::open(data.join("target")).map_err(|e| e.to_string())?;
    let target: Arc<dyn Target> = Arc::new(target);
    let (vaults, unopened) = rescue::open_all(&target, &key, &env).map_err(|e| e.to_string())?;
    none_of("vaults that the key does not open", &unopened)?;
    for vault in vaults {
        let left = vault.unreferenced().map_err(|e| e.to_string())?;
        none_of("runs", &left.runs)?;
        none_of("objects", &left.objects)?;
        none_of("unknown objects", &left.unknown)?;
    }
    Ok(())
}

fn none_of<T: std::fmt::Debug>(what: &str, left: &[T]) -> Result<(), String> {
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("{what} left over: {left:?}"))
}

fn file_names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}
