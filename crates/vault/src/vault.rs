//! Making and opening a vault.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use stillpoint_model::compression::CompressionLevel;
use stillpoint_model::id::{AccountId, VaultId, VolumeId};
use stillpoint_model::{ByteRange, Env, ErrorKind};

use crate::Error;
use crate::format::names::{IdBytes, Named, Names};
use crate::format::object::{Class, Header, open_object, seal_object};
use crate::format::pack::PackId;
use crate::format::wire::Malformed;
use crate::format::{AccountKey, KEY_OBJECT_LEN, KeyId, KeyObject, RootKey, VaultKeys};
use crate::target::{ObjectName, Target, list_each};

/// Whose vault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultSpec {
    /// The vault.
    pub vault_id: VaultId,
    /// The account that it belongs to. Shown when keys are rescued; decides nothing here.
    pub account_id: AccountId,
}

/// How much memory and how many threads a backup or a restore may use, and how hard it presses.
///
/// At the default a backup peaks at about 36 MiB above idle: packs of 4 MiB (one filling, the
/// others on their way), frames of 1 MiB, compressors with room for a frame each way, and an index
/// that grows to 5 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The level of zstd.
    pub zstd_level: i32,
    /// Threads that compress. They wait for nobody, so more of them than there are cores take turns
    /// on one core and push each other's tables out of its cache. Whoever waits for a target or a
    /// disk half of the time has more of them: one more to prove packs, three times as many to
    /// restore.
    pub workers: usize,
    /// Packs that are on their way to the target at the same time.
    pub uploads: usize,
    /// A pack is full at this length, in bytes.
    pub pack_len: usize,
    /// The most entries of the index in memory, 16 bytes each. Beyond, the index is sampled and
    /// finds fewer of the chunks that moved.
    pub index_entries: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            zstd_level: 3,
            workers: 2,
            uploads: 2,
            pack_len: 4 << 20,
            index_entries: 225_000,
        }
    }
}

/// However many requests a target bears, no more threads than this ask it at once.
const MAX_WIDTH: usize = 16;

impl Tuning {
    /// How many threads compress.
    pub(crate) fn workers(&self) -> usize {
        self.workers.clamp(1, 16)
    }

    /// How many threads read packs and prove them.
    pub(crate) fn provers(&self) -> usize {
        (self.workers + 1).clamp(1, 16)
    }

    /// How many threads move what has to be waited for.
    pub(crate) fn movers(&self) -> usize {
        (3 * self.workers).clamp(1, 16)
    }
}

/// An open vault. Cheap to clone; every call may be made from any thread. All calls block.
#[derive(Clone)]
pub struct Vault {
    pub(crate) target: Arc<dyn Target>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) keys: Arc<VaultKeys>,
    pub(crate) names: Names,
    pub(crate) tuning: Tuning,
    /// Packs that this process marked as damaged.
    pub(crate) marked: Arc<Mutex<HashSet<PackId>>>,
    account_id: AccountId,
    read_only: bool,
    /// The keys object that opened it.
    pub(crate) opened_with: Arc<WrappedKeys>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.names.vault)
    }
}

impl Vault {
    /// Makes a vault under new keys. `VaultExists` when it is there already.
    pub fn create(
        target: Arc<dyn Target>,
        spec: VaultSpec,
        root: &RootKey,
        account: &AccountKey,
        env: Arc<dyn Env>,
    ) -> Result<Self, Error> {
        let id = spec.vault_id.to_bytes();
        let names = Names {
            vault: spec.vault_id,
        };
        let mut salt = [0; 16];
        env.fill_random(&mut salt);
        let secret = RootSecret::random(&*env);
        let object = KeyObject {
            header: Header {
                seq: 1,
                ..Header::new(Class::Keys, id, id, salt)
            },
            account_id: spec.account_id,
            root_key_id: root.id(),
        };
        let name = names.keys(1);
        let bytes = object
            .seal(root, account, &secret.0)
            .map_err(|what| damaged(&name, what))?;
        match target.put_new(&name, &bytes) {
            Ok(()) => {
                let vault = Self::open(target, spec.vault_id, root, env)?;
                if let Err(error) = vault.keep_reserve() {
                    tracing::warn!(vault = %spec.vault_id, %error, "no room for a reserve");
                }
                Ok(vault)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                Err(Error::VaultExists(spec.vault_id))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a vault. `VaultNotFound`, or `WrongKey` with the name of the key that is needed.
    pub fn open(
        target: Arc<dyn Target>,
        vault_id: VaultId,
        root: &RootKey,
        env: Arc<dyn Env>,
    ) -> Result<Self, Error> {
        let names = Names { vault: vault_id };
        let mut failure = Error::VaultNotFound(vault_id);
        for found in keys_of(&*target, names)?.into_iter().rev() {
            match read_keys(&*target, names, found).and_then(|read| Ok((read.open(root)?, read))) {
                Ok((keys, read)) => {
                    return Ok(Self {
                        target,
                        env,
                        keys: Arc::new(keys),
                        names,
                        tuning: Tuning::default(),
                        marked: Arc::default(),
                        account_id: read.object.account_id,
                        read_only: false,
                        opened_with: Arc::new(read),
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Opens a vault, or makes it with a new account key when it is not there. Doing it twice,
    /// even at the same time, is doing it once.
    pub fn open_or_create(
        target: Arc<dyn Target>,
        spec: VaultSpec,
        root: &RootKey,
        env: Arc<dyn Env>,
    ) -> Result<Self, Error> {
        match Self::open(target.clone(), spec.vault_id, root, env.clone()) {
            Err(Error::VaultNotFound(_)) => {}
            other => return other,
        }
        let account = AccountKey::generate(&*env);
        match Self::create(target.clone(), spec, root, &account, env.clone()) {
            Err(Error::VaultExists(_)) => Self::open(target, spec.vault_id, root, env),
            other => other,
        }
    }

    /// The same vault, used with other settings.
    #[must_use]
    pub fn with_tuning(self, tuning: Tuning) -> Self {
        Self { tuning, ..self }
    }

    /// The same vault, which nothing is written into any more: no mark on what is damaged either.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            read_only: true,
            ..self
        }
    }

    /// The same vault, whose backups are compressed at this level from now on.
    #[must_use]
    pub fn compressing_at(mut self, level: CompressionLevel) -> Self {
        self.tuning.zstd_level = level.get().into();
        self
    }

    /// The vault's id.
    pub fn id(&self) -> VaultId {
        self.names.vault
    }

    /// The account it belongs to.
    pub fn account_id(&self) -> AccountId {
        self.account_id
    }

    /// The prefix in the target under which everything of one volume is.
    pub fn volume_prefix(&self, volume_id: VolumeId) -> String {
        self.names.volume(volume_id)
    }

    /// How many requests are best under way at once.
    pub(crate) fn width(&self) -> usize {
        self.target.width().clamp(1, MAX_WIDTH)
    }

    /// Whether an object is there, asked by its name.
    pub(crate) fn is_there(&self, name: &ObjectName) -> Result<bool, Error> {
        Ok(self.target.has(name)?)
    }

    /// Refuses when writing needs something unknown here.
    pub(crate) fn require_writable(&self) -> Result<(), Error> {
        self.require(self.keys.flags.write, "a feature needed to write")
    }

    /// Refuses when deleting needs something unknown here.
    pub(crate) fn require_collectable(&self) -> Result<(), Error> {
        self.require(
            self.keys.flags.write | self.keys.flags.collect,
            "a feature needed to delete",
        )
    }

    fn require(&self, flags: u32, what: &'static str) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::Invalid("the vault was opened for reading only"));
        }
        if flags == 0 {
            return Ok(());
        }
        Err(Error::Unsupported {
            object: self.names.keys(1),
            what,
        })
    }

    pub(crate) fn header(&self, class: Class, id: [u8; 16]) -> Header {
        let mut salt = [0; 16];
        self.env.fill_random(&mut salt);
        Header::new(class, self.keys.vault, id, salt)
    }

    /// Seals a small object.
    pub(crate) fn seal(
        &self,
        name: &ObjectName,
        header: &Header,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        self.keys
            .object(header)
            .and_then(|key| seal_object(&key, header, body))
            .map_err(|what| damaged(name, what))
    }

    /// Reads a whole object as it is in the target; one that is too long is damaged.
    pub(crate) fn read_raw(&self, name: &ObjectName, max_len: u64) -> Result<Vec<u8>, Error> {
        Ok(self.target.get_whole(name, max_len)?)
    }

    /// Reads a small object of known class and id, at most `max_len` long, and gives its body.
    pub(crate) fn read_object(
        &self,
        name: &ObjectName,
        class: Class,
        id: [u8; 16],
        seq: u32,
        max_len: u64,
    ) -> Result<Vec<u8>, Error> {
        let bytes = self.read_raw(name, max_len)?;
        self.open_raw(name, bytes, class, id, seq)
    }

    /// Opens a small object that was read, and gives its body.
    pub(crate) fn open_raw(
        &self,
        name: &ObjectName,
        mut bytes: Vec<u8>,
        class: Class,
        id: [u8; 16],
        seq: u32,
    ) -> Result<Vec<u8>, Error> {
        let wanted = Header {
            seq,
            ..Header::new(class, self.keys.vault, id, [0; 16])
        };
        let open = |bytes: &mut [u8]| {
            let header = Header::of_same(bytes, &wanted)?;
            let body = open_object(&self.keys.object(&header)?, bytes)?;
            header.require_readable()?;
            Ok(body)
        };
        open(&mut bytes).map_err(|what| damaged(name, what))
    }
}

impl Vault {
    /// Whether bytes are a generation of this vault's keys object: the one that opened it as it was
    /// then, or another one whose clear part is for this vault.
    pub(crate) fn is_keys(&self, generation: u32, bytes: Vec<u8>) -> bool {
        if self.opened_with.generation == generation {
            return self.opened_with.bytes == bytes;
        }
        WrappedKeys::parse(self.names, generation, bytes).is_ok()
    }

    /// Reads a generation of the keys object again. The one that opened this vault must be what
    /// it was then; of another only the clear part can be proven without the root key.
    pub(crate) fn check_keys(&self, generation: u32, len: u64) -> Result<(), Error> {
        let name = self.names.keys(generation);
        if len != KEY_OBJECT_LEN as u64 {
            return Err(damaged(&name, Malformed::Wrong("it has the wrong length")));
        }
        let bytes = self.target.get(&name, ByteRange::new(0, len))?;
        KeyObject::decode(&bytes, self.names.vault).map_err(|what| damaged(&name, what))?;
        if self.opened_with.generation == generation && self.opened_with.bytes != bytes {
            return Err(damaged(
                &name,
                Malformed::Wrong("it changed since it was opened"),
            ));
        }
        Ok(())
    }
}

struct RootSecret(zeroize::Zeroizing<[u8; 32]>);

impl RootSecret {
    fn random(env: &dyn Env) -> Self {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        env.fill_random(&mut *bytes);
        Self(bytes)
    }
}

/// The generations of a vault's keys object that are in the target, oldest first, and their lengths.
pub(crate) fn keys_of(target: &dyn Target, names: Names) -> Result<Vec<(u32, u64)>, Error> {
    let mut generations = vec![];
    list_each(target, &names.prefix("keys/"), |entry| {
        if let Some(Named::Keys(generation)) = names.parse(&entry.name) {
            generations.push((generation, entry.len.get()));
        }
        Ok::<_, Error>(())
    })?;
    Ok(generations)
}

/// One generation of a keys object, whole and for this vault, whoever can open it.
pub(crate) struct WrappedKeys {
    pub name: ObjectName,
    pub generation: u32,
    pub object: KeyObject,
    pub bytes: Vec<u8>,
}

impl WrappedKeys {
    /// Takes the bytes of a keys object apart.
    pub(crate) fn parse(names: Names, generation: u32, bytes: Vec<u8>) -> Result<Self, Error> {
        let name = names.keys(generation);
        let object = KeyObject::decode(&bytes, names.vault).map_err(|what| damaged(&name, what))?;
        if object.header.seq != generation {
            return Err(damaged(&name, Malformed::Wrong("it is another object")));
        }
        Ok(Self {
            name,
            generation,
            object,
            bytes,
        })
    }

    /// Unwraps the keys.
    pub(crate) fn open(&self, root: &RootKey) -> Result<VaultKeys, Error> {
        let (needed, given): (KeyId, KeyId) = (self.object.root_key_id, root.id());
        if needed != given {
            let vault_id = VaultId::of_bytes(self.object.header.vault);
            return Err(Error::WrongKey {
                vault_id,
                needed,
                given,
            });
        }
        let opened = self.object.open(&self.bytes, root);
        opened.map_err(|what| damaged(&self.name, what))
    }
}

/// Reads one generation of a vault's keys object, of the length that it was listed with.
pub(crate) fn read_keys(
    target: &dyn Target,
    names: Names,
    (generation, len): (u32, u64),
) -> Result<WrappedKeys, Error> {
    let name = names.keys(generation);
    if len != KEY_OBJECT_LEN as u64 {
        return Err(damaged(&name, Malformed::Wrong("it has the wrong length")));
    }
    let bytes = target.get(&name, ByteRange::new(0, len))?;
    WrappedKeys::parse(names, generation, bytes)
}

/// The error of an object that is not what it should be.
pub(crate) fn damaged(object: &ObjectName, what: Malformed) -> Error {
    let object = object.clone();
    match what {
        Malformed::Wrong(what) => Error::Corrupt { object, what },
        Malformed::Unknown(what) => Error::Unsupported { object, what },
    }
}
