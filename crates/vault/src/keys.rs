//! The keys of a vault apart from its data: wrapping them anew, keeping a copy, destroying them.
//!
//! **Rotation** moves a vault from one root key to another and touches no data:
//!
//! ```text
//! keys/1 (old root) --put--> keys/1 + keys/2 (new root) --read back, compared--> delete keys/1
//! ```
//!
//! Keys are locked as long as a backup that needs them is promised to stay, where the target locks
//! objects. Then the old ones outlast a rotation, and the keys outlast their destruction, until that time
//! is over: what is left opens with a root key that can be thrown away as a whole.
//!
//! After a crash anywhere at least one generation opens, and doing it again finishes it. From the
//! last deletion on the old root key opens nothing here.
//!
//! **Mending**, while a vault is open, puts keys whose object rotted under the next generation, from
//! what opened it. Whoever opens the vault next needs that.
//!
//! **A copy** of the wrapped keys is safe to keep anywhere that the root key is not. Without one a
//! lost keys object of a few hundred bytes would be the loss of all backups of an account.
//!
//! **Destroying** every keys object of a vault makes all of its backups unreadable for good, for
//! as long as nobody kept a copy: of the wrapped keys, or of the target below us, such as old
//! versions in a bucket.

use std::fmt::Write as _;

use stillpoint_model::id::VaultId;
use stillpoint_model::{Env, ErrorKind};

use crate::format::hash::{from_hex, hex};
use crate::format::names::Names;
use crate::format::{KEY_OBJECT_LEN, RootKey, VaultKeys};
use crate::target::{ObjectName, Target};
use crate::vault::{WrappedKeys, damaged, keys_of, read_keys};
use crate::{Error, Vault};

const LEN: u64 = KEY_OBJECT_LEN as u64;
const COPY_WORD: &str = "stillpoint-wrapped-keys-1";
/// The longest copy that is read: some 30,000 vaults.
pub const MAX_COPY_LEN: u64 = 16 << 20;

/// What a rotation found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Whether the keys were wrapped; false when an earlier rotation had done so.
    pub wrapped: bool,
    /// Keys objects under the old root key that were removed.
    pub removed: usize,
    /// Keys objects under the old root key that are locked: it opens the vault until their locks are
    /// over and the rotation was done again.
    pub locked: usize,
}

/// Moves a vault from one root key to another. `WrongKey` when neither opens it; `Conflict` when
/// somebody else rotates at the same time.
pub fn rotate(
    target: &dyn Target,
    vault_id: VaultId,
    from: &RootKey,
    to: &RootKey,
    env: &dyn Env,
) -> Result<Rotation, Error> {
    let names = Names { vault: vault_id };
    if from.id() == to.id() {
        return Err(Error::Invalid("the new root key is the old one"));
    }
    let kept = read_all(target, names)?;
    let mut rotation = Rotation::default();
    let now = match newest(&kept, vault_id, to) {
        Ok((_, keys)) => keys,
        Err(_) => {
            let (old, keys) = newest(&kept, vault_id, from)?;
            let written = put_next(target, names, old, (from, to), env)?;
            rotation.wrapped = true;
            if !written.opens_the_same(&keys) {
                return Err(Error::Internal("the keys were not wrapped as they are"));
            }
            written
        }
    };
    for old in &kept {
        match old.open(from) {
            Ok(keys) if keys.opens_the_same(&now) => match target.delete(&old.name) {
                Ok(()) => rotation.removed += 1,
                Err(error) if error.kind() == ErrorKind::Conflict => rotation.locked += 1,
                Err(error) => return Err(error.into()),
            },
            Ok(_) => return Err(Error::Internal("two generations open different vaults")),
            Err(_) => {}
        }
    }
    Ok(rotation)
}

/// Wraps the keys under the next generation, and opens what was written.
fn put_next(
    target: &dyn Target,
    names: Names,
    old: &WrappedKeys,
    (from, to): (&RootKey, &RootKey),
    env: &dyn Env,
) -> Result<VaultKeys, Error> {
    let last = keys_of(target, names)?.last().map_or(0, |(last, _)| *last);
    let next = last.checked_add(1);
    let next = next.ok_or(Error::Invalid("there are no generations left"))?;
    let mut salt = [0; 16];
    env.fill_random(&mut salt);
    let wrapped = old.object.rewrap(&old.bytes, from, to, (next, salt));
    let name = names.keys(next);
    target.put_new(&name, &wrapped.map_err(|what| damaged(&name, what))?)?;
    read_keys(target, names, (next, LEN))?.open(to)
}

/// Wraps the keys of an open vault anew, under the root key that opened it, when the object that they
/// were in is damaged by now; its name. It goes only after what replaces it opened. Keys that are gone
/// were destroyed or rotated, and stay so.
pub fn mend(vault: &Vault, root: &RootKey) -> Result<Option<ObjectName>, Error> {
    vault.require_collectable()?;
    let (target, names, opened) = (&*vault.target, vault.names, &*vault.opened_with);
    let mut others = keys_of(target, names)?;
    let Some(at) = others.iter().position(|found| found.0 == opened.generation) else {
        return Ok(None);
    };
    let read = |found| read_keys(target, names, found).and_then(|keys| keys.open(root));
    match read(others.remove(at)) {
        Ok(_) => return Ok(None),
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) if !is_of_these_keys(&error) => return Err(error),
        Err(_) => {}
    }
    let mut keys = None;
    for found in others {
        match read(found) {
            // Put by a mending that was cut off.
            Ok(found) => keys = Some(found),
            Err(error) if is_of_these_keys(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let was_mended = keys.is_some();
    let keys = match keys {
        Some(keys) => keys,
        None => put_next(target, names, opened, (root, root), &*vault.env)?,
    };
    if !keys.opens_the_same(&vault.keys) {
        return Err(Error::Internal("the keys were not wrapped as they are"));
    }
    match target.delete(&opened.name) {
        // It is locked, and nobody needs it any more: a later look takes it away.
        Err(error) if error.kind() == ErrorKind::Conflict && was_mended => Ok(None),
        Err(error) if error.kind() != ErrorKind::Conflict => Err(error.into()),
        _ => Ok(Some(opened.name.clone())),
    }
}

/// Whether others may well open. Objects are written once, so one that opened before, and says now that
/// it is of another root key or version, is not what was written.
fn is_of_these_keys(error: &Error) -> bool {
    error.is_of_one_object() || matches!(error, Error::WrongKey { .. })
}

/// The text of a copy of the wrapped keys of vaults: a word, then a line for each keys object that
/// `root` opens.
pub fn export(target: &dyn Target, vaults: &[VaultId], root: &RootKey) -> Result<String, Error> {
    let mut copy = format!("{COPY_WORD}\n");
    for vault in vaults {
        let kept = read_all(target, Names { vault: *vault })?;
        let (keys, _) = newest(&kept, *vault, root)?;
        let digits = hex(&keys.bytes);
        // Writing to a string cannot fail.
        let _ = writeln!(copy, "{vault} {:08x} {digits}", keys.generation);
    }
    Ok(copy)
}

/// Puts the keys of a copy back, where the target has none that `root` opens. Answers the vaults
/// whose keys were put. Nothing is put before the whole copy was read and every line of it opened.
pub fn import(target: &dyn Target, copy: &str, root: &RootKey) -> Result<Vec<VaultId>, Error> {
    let mut lines = copy.lines();
    if lines.next() != Some(COPY_WORD) {
        return Err(Error::Invalid("this is no copy of wrapped keys"));
    }
    let kept = lines.map(parse_line).collect::<Result<Vec<_>, _>>()?;
    for (_, keys) in &kept {
        keys.open(root)?;
    }
    let mut put = vec![];
    for (names, keys) in kept {
        let there = read_all(target, names)?;
        if newest(&there, names.vault, root).is_ok() {
            continue;
        }
        if let Some(other) = there.iter().find(|at| at.generation == keys.generation) {
            // Whole, and for another root key: not ours to replace.
            other.open(root)?;
        }
        // What is left under this name is damaged.
        target.delete(&keys.name)?;
        target.put_new(&keys.name, &keys.bytes)?;
        read_keys(target, names, (keys.generation, LEN))?.open(root)?;
        put.push(names.vault);
    }
    Ok(put)
}

fn parse_line(line: &str) -> Result<(Names, WrappedKeys), Error> {
    const MALFORMED: Error = Error::Invalid("a line of the copy is malformed");
    let mut words = line.split(' ');
    let (Some(vault), Some(generation), Some(digits), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(MALFORMED);
    };
    let vault = vault.parse().map_err(|_| MALFORMED)?;
    let generation = u32::from_str_radix(generation, 16).map_err(|_| MALFORMED)?;
    let bytes: [u8; KEY_OBJECT_LEN] = from_hex(digits).ok_or(MALFORMED)?;
    let names = Names { vault };
    WrappedKeys::parse(names, generation, bytes.to_vec()).map(|keys| (names, keys))
}

/// Destroys the keys of a vault and answers how many generations there were. Its backups can never
/// be read again. An error may leave some; doing it again goes on. `Conflict` when some are locked: all
/// others are gone.
pub fn destroy(target: &dyn Target, vault_id: VaultId) -> Result<usize, Error> {
    let names = Names { vault: vault_id };
    let generations = keys_of(target, names)?;
    let mut locked = None;
    for (generation, _) in &generations {
        match target.delete(&names.keys(*generation)) {
            Ok(()) => {}
            // The others go all the same: they may be under another root key.
            Err(error) if error.kind() == ErrorKind::Conflict => locked = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(error) = locked {
        return Err(error.into());
    }
    if keys_of(target, names)?.is_empty() {
        return Ok(generations.len());
    }
    Err(Error::Internal("keys are there after they were destroyed"))
}

/// The generations that are whole, oldest first. A damaged one is left out: another may open.
fn read_all(target: &dyn Target, names: Names) -> Result<Vec<WrappedKeys>, Error> {
    let generations = keys_of(target, names)?;
    let mut kept = Vec::with_capacity(generations.len());
    for found in generations {
        match read_keys(target, names, found) {
            Ok(keys) => kept.push(keys),
            Err(error) if error.is_damage() => tracing::warn!(%error, "a keys object is damaged"),
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}

/// The newest generation that this root key opens.
fn newest<'k>(
    kept: &'k [WrappedKeys],
    vault_id: VaultId,
    root: &RootKey,
) -> Result<(&'k WrappedKeys, VaultKeys), Error> {
    let mut failure = Error::VaultNotFound(vault_id);
    for keys in kept.iter().rev() {
        match keys.open(root) {
            Ok(opened) => return Ok((keys, opened)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
