//! Root key, account key, vault key, and the object that carries the last two wrapped.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use stillpoint_model::Env;
use stillpoint_model::id::{AccountId, VaultId};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::hash::{Hasher, from_hex, hex};
use super::object::{Class, Flags, HEADER_LEN, Header, ObjectKey, Segment, TAG_LEN};
use super::wire::{Malformed, Reader};
use crate::Error;

const ROOT_KEY_WORD: &str = "stillpoint-root-key-1";
const ROOT_KEY_ID: &str = "stillpoint vault 1 root key id";
const ROOT_WRAPS_ACCOUNT: &str = "stillpoint vault 1 root key wraps account key";
const ACCOUNT_WRAPS_VAULT: &str = "stillpoint vault 1 account key wraps vault key";
const CHUNK_KEY: &str = "stillpoint vault 1 chunk id key";
const TREE_KEY: &str = "stillpoint vault 1 tree key";
const OBJECT_KEY: &str = "stillpoint vault 1 object key";

/// The name of a root key: derived from it, gives nothing of it away.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(crate) [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The key over all keys. With it and a target everything can be read.
#[derive(Clone)]
pub struct RootKey(Zeroizing<[u8; 32]>);

impl RootKey {
    /// A new key.
    pub fn generate(env: &dyn Env) -> Self {
        Self(random(env))
    }

    /// From 32 secret bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::RootKeyFile {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&Zeroizing::new(text))
    }

    /// Makes a new key and its file, mode 0400, durable. An existing file is never replaced.
    pub fn create(path: &Path, env: &dyn Env) -> Result<Self, Error> {
        let key = Self::generate(env);
        key.write(path).map_err(|source| Error::RootKeyFile {
            path: path.to_owned(),
            source,
        })?;
        Ok(key)
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(path)?;
        file.write_all(self.to_text().as_bytes())?;
        file.sync_all()?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        fs::File::open(dir)?.sync_all()
    }

    /// Parses the text of a key file: a word and 64 hex digits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(ROOT_KEY_WORD), Some(digits), None) => from_hex(digits)
                .map(Self::from_bytes)
                .ok_or(Error::MalformedRootKey),
            _ => Err(Error::MalformedRootKey),
        }
    }

    /// The text of its key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{ROOT_KEY_WORD} {}\n",
            *Zeroizing::new(hex(&*self.0))
        ))
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let hash = blake3::derive_key(ROOT_KEY_ID, &*self.0);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        KeyId(id)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.id())
    }
}

/// The key over one account's vaults. Destroying it makes its backups unreadable.
#[derive(Clone)]
pub struct AccountKey(Zeroizing<[u8; 32]>);

impl AccountKey {
    /// A new key.
    pub fn generate(env: &dyn Env) -> Self {
        Self(random(env))
    }

    /// From 32 secret bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

pub(super) fn random(env: &dyn Env) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    env.fill_random(&mut *bytes);
    bytes
}

/// What the keys object says in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyObject {
    pub header: Header,
    pub account_id: AccountId,
    pub root_key_id: KeyId,
}

const CLEAR_LEN: usize = HEADER_LEN + 32;
const WRAPPED_LEN: usize = 32 + TAG_LEN;
/// Length of a keys object.
pub(crate) const KEY_OBJECT_LEN: usize = CLEAR_LEN + 2 * WRAPPED_LEN;

impl KeyObject {
    /// Wraps an account's and a vault's key under the root key.
    pub(crate) fn seal(
        &self,
        root: &RootKey,
        account: &AccountKey,
        vault_key: &[u8; 32],
    ) -> Result<Vec<u8>, Malformed> {
        let mut object = self.header.encode().to_vec();
        object.extend_from_slice(self.account_id.as_uuid().as_bytes());
        object.extend_from_slice(&self.root_key_id.0);
        let clear = object[HEADER_LEN..].to_vec();
        let wraps = [
            (
                ROOT_WRAPS_ACCOUNT,
                &*root.0,
                Segment::AccountKey,
                &*account.0,
            ),
            (
                ACCOUNT_WRAPS_VAULT,
                &*account.0,
                Segment::VaultKey,
                vault_key,
            ),
        ];
        for (context, under, kind, key) in wraps {
            let wrapping = wrapping_key(context, under, &self.header)?;
            let mut wrapped = Vec::with_capacity(WRAPPED_LEN);
            wrapped.extend_from_slice(key);
            wrapping.seal(kind, object.len() as u64, &clear, &mut wrapped)?;
            object.append(&mut wrapped);
        }
        Ok(object)
    }

    /// Reads what is in the clear.
    pub(crate) fn decode(bytes: &[u8], vault_id: VaultId) -> Result<Self, Malformed> {
        if bytes.len() != KEY_OBJECT_LEN {
            return Err(Malformed::Wrong("it has the wrong length"));
        }
        let id = vault_id.as_uuid().into_bytes();
        let seq = Header::decode(bytes)?.seq;
        let wanted = Header {
            seq,
            ..Header::new(Class::Keys, id, id, [0; 16])
        };
        let header = Header::expect(bytes, &wanted)?;
        let mut r = Reader::new(bytes.get(HEADER_LEN..).unwrap_or_default());
        Ok(Self {
            header,
            account_id: AccountId::from_uuid(Uuid::from_bytes(r.array()?)),
            root_key_id: KeyId(r.array()?),
        })
    }

    /// Unwraps the vault's key.
    pub(crate) fn open(&self, bytes: &[u8], root: &RootKey) -> Result<VaultKeys, Malformed> {
        let (_, vault) = self.unwrap(bytes, root)?;
        Ok(VaultKeys::new(self.header.vault, vault, self.header.flags))
    }

    /// The same keys as generation `seq`, wrapped under another root key.
    pub(crate) fn rewrap(
        &self,
        bytes: &[u8],
        from: &RootKey,
        to: &RootKey,
        (seq, salt): (u32, [u8; 16]),
    ) -> Result<Vec<u8>, Malformed> {
        let (account, vault) = self.unwrap(bytes, from)?;
        let next = Self {
            header: Header {
                seq,
                salt,
                ..self.header
            },
            root_key_id: to.id(),
            ..*self
        };
        next.seal(to, &AccountKey(account), &vault)
    }

    /// The account's and the vault's key.
    fn unwrap(&self, bytes: &[u8], root: &RootKey) -> Result<(Secret, Secret), Malformed> {
        let clear = bytes.get(HEADER_LEN..CLEAR_LEN).unwrap_or_default();
        let unwrap = |context, under: &[u8; 32], kind, offset: usize| {
            let wrapping = wrapping_key(context, under, &self.header)?;
            let end = offset + WRAPPED_LEN;
            let mut wrapped = Zeroizing::new(bytes.get(offset..end).unwrap_or_default().to_vec());
            let plain = wrapping.open(kind, offset as u64, clear, &mut wrapped)?;
            let mut key = Zeroizing::new([0; 32]);
            if plain.len() != key.len() {
                return Err(Malformed::Wrong("a wrapped key has the wrong length"));
            }
            key.copy_from_slice(plain);
            Ok(key)
        };
        let account = unwrap(ROOT_WRAPS_ACCOUNT, &root.0, Segment::AccountKey, CLEAR_LEN)?;
        let second = CLEAR_LEN + WRAPPED_LEN;
        let vault = unwrap(ACCOUNT_WRAPS_VAULT, &account, Segment::VaultKey, second)?;
        Ok((account, vault))
    }
}

type Secret = Zeroizing<[u8; 32]>;

fn wrapping_key(context: &str, secret: &[u8; 32], header: &Header) -> Result<ObjectKey, Malformed> {
    ObjectKey::derive(context, secret, header).ok_or(Malformed::Wrong("a key cannot be derived"))
}

/// The keys of one vault.
pub(crate) struct VaultKeys {
    /// The vault.
    pub vault: [u8; 16],
    /// The vault's flags.
    pub flags: Flags,
    /// Chunk ids and content hashes.
    pub hasher: Hasher,
    secret: Zeroizing<[u8; 32]>,
}

impl VaultKeys {
    pub(crate) fn new(vault: [u8; 16], secret: Zeroizing<[u8; 32]>, flags: Flags) -> Self {
        let derive = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(&*secret).update(&vault);
            let key = *hasher.finalize().as_bytes();
            hasher.zeroize();
            key
        };
        let hasher = Hasher::new(derive(CHUNK_KEY), derive(TREE_KEY));
        Self {
            vault,
            flags,
            hasher,
            secret,
        }
    }

    /// Whether both open the same vault.
    pub(crate) fn opens_the_same(&self, other: &Self) -> bool {
        (self.vault, &*self.secret) == (other.vault, &*other.secret)
    }

    /// The key of the object with this header.
    pub(crate) fn object(&self, header: &Header) -> Result<ObjectKey, Malformed> {
        ObjectKey::derive(OBJECT_KEY, &self.secret, header)
            .ok_or(Malformed::Wrong("a key cannot be derived"))
    }
}
