//! What a node can reach: its pools, its backup targets, its folder of uploads.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use stillpoint_layers::machine_memory::MemoryFolder;
use stillpoint_layers::{ImageSource, Pool};
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{PoolId, TargetId, VaultId, VolumeId};
use stillpoint_model::layer_tree::FillSource;
use stillpoint_model::task::{ImageFormat, TaskFailure, VaultRef};
use stillpoint_model::{Env, ErrorKind};
use stillpoint_vault::target::{ObjectName, Target};
use stillpoint_vault::{RootKey, Tuning, Vault, VaultSpec, keys};

use crate::failure::{not_configured, of_vault};
use crate::machines::Machines;
use crate::readers::Readers;

/// A backup target and the key over all keys in it.
struct KeyedTarget {
    target: Arc<dyn Target>,
    root_key: RootKey,
}

/// What a node can reach.
pub struct Storage {
    env: Arc<dyn Env>,
    tuning: Tuning,
    uploads: PathBuf,
    pools: HashMap<PoolId, Arc<dyn Pool>>,
    targets: HashMap<TargetId, KeyedTarget>,
    /// A vault and its copies have one id.
    vaults: Mutex<HashMap<(TargetId, VaultId), Vault>>,
    machines: Option<Arc<dyn Machines>>,
    memories: HashMap<PoolId, MemoryFolder>,
    readers: Option<Arc<Readers>>,
}

impl Storage {
    /// Nothing yet but a folder where uploads wait to be imported.
    pub fn new(env: Arc<dyn Env>, uploads: PathBuf, tuning: Tuning) -> Self {
        Self {
            env,
            tuning,
            uploads,
            pools: HashMap::new(),
            targets: HashMap::new(),
            vaults: Mutex::default(),
            machines: None,
            memories: HashMap::new(),
            readers: None,
        }
    }

    /// Adds a pool, under its own id.
    #[must_use]
    pub fn with_pool(mut self, pool: Arc<dyn Pool>) -> Self {
        self.pools.insert(pool.id(), pool);
        self
    }

    /// Adds a backup target.
    #[must_use]
    pub fn with_target(mut self, id: TargetId, target: Arc<dyn Target>, root_key: RootKey) -> Self {
        self.targets.insert(id, KeyedTarget { target, root_key });
        self
    }

    /// Adds a hypervisor: from now on the node says what its machines do.
    #[must_use]
    pub fn with_machines(mut self, machines: Arc<dyn Machines>) -> Self {
        self.machines = Some(machines);
        self
    }

    /// Adds the folder for the memory of machines whose volumes are in a pool.
    #[must_use]
    pub fn with_memories(mut self, pool: PoolId, folder: MemoryFolder) -> Self {
        self.memories.insert(pool, folder);
        self
    }

    /// Adds what reads backups for guests whose volumes are not whole yet: from now on the node looks
    /// after them.
    #[must_use]
    pub fn with_readers(mut self, readers: Readers) -> Self {
        self.readers = Some(Arc::new(readers));
        self
    }

    /// What reads backups for guests.
    pub(crate) fn readers(&self) -> Result<&Readers, TaskFailure> {
        let readers = self.readers.as_deref();
        readers.ok_or_else(|| not_configured("readers of backups"))
    }

    /// Whether there is anything that reads backups for guests.
    pub(crate) const fn has_readers(&self) -> bool {
        self.readers.is_some()
    }

    /// Has every reader listen whose volume is being filled, and ends the others.
    pub(crate) fn look_after_readers(&self) {
        if let Some(readers) = &self.readers {
            readers.look_after(|volume| self.filled_from(volume));
        }
    }

    /// Ends the reader of a volume, if there is one. What fails is done by the next look.
    pub(crate) fn end_reader(&self, volume: VolumeId) {
        if let Some(readers) = &self.readers
            && let Err(error) = readers.end(volume)
        {
            let error = with_causes(&error);
            tracing::warn!(%volume, error, "its reader is not ended yet");
        }
    }

    /// What a volume of any pool is being filled from; none when it is whole, or is not there.
    fn filled_from(
        &self,
        volume: VolumeId,
    ) -> Result<Option<FillSource>, stillpoint_layers::Error> {
        for pool in self.pools.values() {
            if let Some(filling) = pool.filling(volume)? {
                return Ok(Some(filling.source));
            }
        }
        Ok(None)
    }

    /// The memory of machines whose volumes are in a pool.
    pub(crate) fn memories(&self, pool: PoolId) -> Result<&MemoryFolder, TaskFailure> {
        let folder = self.memories.get(&pool);
        folder.ok_or_else(|| not_configured("memory of machines"))
    }

    /// The machines of this node.
    pub(crate) fn machines(&self) -> Result<&dyn Machines, TaskFailure> {
        let machines = self.machines.as_deref();
        machines.ok_or_else(|| not_configured("hypervisor"))
    }

    /// The machines of this node, to look at.
    pub(crate) fn watched_machines(&self) -> Option<Arc<dyn Machines>> {
        self.machines.clone()
    }

    /// Clock and chance.
    pub(crate) fn env(&self) -> &dyn Env {
        &*self.env
    }

    /// A pool of this node.
    pub(crate) fn pool(&self, id: PoolId) -> Result<&dyn Pool, TaskFailure> {
        let pool = self
            .pools
            .get(&id)
            .ok_or_else(|| not_configured(&format!("pool {id}")))?;
        Ok(&**pool)
    }

    /// An image that waits to be imported.
    pub(crate) fn upload(&self, upload: uuid::Uuid, format: ImageFormat) -> ImageSource {
        ImageSource {
            path: self.uploads.join(upload.to_string()),
            format,
        }
    }

    /// An existing vault.
    pub(crate) fn vault(&self, vault: VaultRef) -> Result<Vault, TaskFailure> {
        self.cached(vault, |keyed| {
            Vault::open(
                keyed.target.clone(),
                vault.vault_id,
                &keyed.root_key,
                self.env.clone(),
            )
        })
    }

    /// A vault; none when it was never made.
    pub(crate) fn vault_if_there(&self, vault: VaultRef) -> Result<Option<Vault>, TaskFailure> {
        match self.vault(vault) {
            Ok(vault) => Ok(Some(vault)),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A vault, made when it is not there.
    pub(crate) fn vault_for_backup(&self, vault: VaultRef) -> Result<Vault, TaskFailure> {
        let spec = VaultSpec {
            vault_id: vault.vault_id,
            account_id: vault.account_id,
        };
        self.cached(vault, |keyed| {
            let target = keyed.target.clone();
            Vault::open_or_create(target, spec, &keyed.root_key, self.env.clone())
        })
    }

    /// Puts the keys of an open vault back that rotted since it was opened; their object. The vault
    /// is opened anew then.
    pub(crate) fn mend_keys(
        &self,
        at: VaultRef,
        vault: &Vault,
    ) -> Result<Option<ObjectName>, TaskFailure> {
        let keyed = self.keyed(at.target_id)?;
        let mended = keys::mend(vault, &keyed.root_key).map_err(|error| of_vault(&error))?;
        if let Some(name) = &mended {
            tracing::warn!(%name, "keys that rotted were put back");
            let mut vaults = self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
            vaults.remove(&(at.target_id, at.vault_id));
        }
        Ok(mended)
    }

    fn keyed(&self, id: TargetId) -> Result<&KeyedTarget, TaskFailure> {
        let keyed = self.targets.get(&id);
        keyed.ok_or_else(|| not_configured(&format!("backup target {id}")))
    }

    fn cached(
        &self,
        vault: VaultRef,
        open: impl FnOnce(&KeyedTarget) -> Result<Vault, stillpoint_vault::Error>,
    ) -> Result<Vault, TaskFailure> {
        let id = vault.target_id;
        let keyed = self.keyed(id)?;
        let vaults = || self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = vaults().get(&(id, vault.vault_id)) {
            return Ok(open.clone());
        }
        let opened = open(keyed)
            .map_err(|error| of_vault(&error))?
            .with_tuning(self.tuning);
        vaults().insert((id, vault.vault_id), opened.clone());
        Ok(opened)
    }
}
