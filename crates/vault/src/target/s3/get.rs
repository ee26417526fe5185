//! Reading objects, and whether they are there.

use futures_util::TryStreamExt as _;
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore as _, ObjectStoreExt as _,
};
use stillpoint_model::{ByteRange, ErrorKind};

use super::answer::{Answer, Trouble};
use super::{Attempt, Bucket};

impl Bucket {
    pub(super) async fn head_once(&self, name: &str) -> Attempt<ObjectMeta> {
        let key = self.key(name)?;
        let meta = match self.store.head(&key).await {
            Ok(meta) => meta,
            Err(error) => {
                let trouble = Trouble::of(&error, ErrorKind::Retry);
                let bare = |answer: &Answer| answer.status == http::StatusCode::NOT_FOUND;
                if trouble.answer.as_ref().is_some_and(bare) {
                    // Answers to HEAD have no body to tell a missing object from a missing
                    // bucket by.
                    self.why_not_there(&key).await?;
                }
                return Err(trouble);
            }
        };
        self.note_version(meta.version.as_deref());
        Ok(meta)
    }

    /// Asks for the first byte of an object that seems not to be there; the answer is always a
    /// failure, in words this time.
    async fn why_not_there(&self, key: &Key) -> Attempt<()> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(0..1)),
            ..GetOptions::default()
        };
        match self.store.get_opts(key, options).await {
            Err(error) => Err(Trouble::of(&error, ErrorKind::Retry)),
            Ok(_) => Err(Trouble::found(ErrorKind::Retry, "it came and went")),
        }
    }

    /// Reads a range into a buffer.
    pub(super) async fn get_once(
        &self,
        name: &str,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Attempt<()> {
        self.get_at(name, None, range, into).await
    }

    /// Reads a range of a version, or of whatever the server takes for the object.
    pub(super) async fn get_at(
        &self,
        name: &str,
        version: Option<&str>,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Attempt<()> {
        into.clear();
        if range.len == 0 && version.is_some() {
            return Ok(());
        }
        if range.len == 0 {
            let there = self.head_once(name).await?.size;
            return match range.offset <= there {
                true => Ok(()),
                false => Err(Trouble::found(ErrorKind::Corrupt, "it ends before that")),
            };
        }
        let key = self.key(name)?;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.offset..range.end())),
            version: version.map(str::to_owned),
            ..GetOptions::default()
        };
        let failed = |error: object_store::Error| Trouble::of(&error, ErrorKind::Unsupported);
        let found = self.store.get_opts(&key, options).await.map_err(failed)?;
        self.note_version(found.meta.version.as_deref());
        if found.meta.size < range.end() {
            return Err(Trouble::found(ErrorKind::Corrupt, "it ends before that"));
        }
        receive(found, range.len, into).await
    }

    /// Reads an object whole, if it is not too long, in one request.
    pub(super) async fn get_whole_once(&self, name: &str, most: u64) -> Attempt<Vec<u8>> {
        let key = self.key(name)?;
        let failed = |error: object_store::Error| Trouble::of(&error, ErrorKind::Unsupported);
        let found = self.store.get_opts(&key, GetOptions::default()).await;
        let found = found.map_err(failed)?;
        self.note_version(found.meta.version.as_deref());
        let (len, mut bytes) = (found.meta.size, vec![]);
        if len > most {
            return Err(Trouble::found(ErrorKind::Corrupt, "it is too long"));
        }
        receive(found, len, &mut bytes).await?;
        Ok(bytes)
    }

    /// Whether an object is there. Answers to HEAD have no body to tell a missing object from a
    /// missing bucket by, so a byte of it is asked for.
    pub(super) async fn has_once(&self, name: &str) -> Attempt<bool> {
        match self.get_once(name, ByteRange::new(0, 1), &mut vec![]).await {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.is_no_such_object() => Ok(false),
            // An empty one has no such byte.
            Err(trouble) if trouble.kind == ErrorKind::Corrupt => Ok(true),
            Err(trouble) => Err(trouble),
        }
    }
}

/// Takes the body of an answer, which must have so many bytes, into an empty buffer.
async fn receive(found: GetResult, len: u64, into: &mut Vec<u8>) -> Attempt<()> {
    let len =
        usize::try_from(len).map_err(|_| Trouble::found(ErrorKind::Invalid, "that is too long"))?;
    into.reserve_exact(len);
    let mut pieces = found.into_stream();
    let cut = |error: object_store::Error| Trouble::of(&error, ErrorKind::Retry);
    while let Some(piece) = pieces.try_next().await.map_err(cut)? {
        if piece.len() > len - into.len() {
            return Err(Trouble::found(
                ErrorKind::Retry,
                "more came than was asked for",
            ));
        }
        into.extend_from_slice(&piece);
    }
    match into.len() == len {
        true => Ok(()),
        false => Err(Trouble::found(ErrorKind::Retry, "less came than was said")),
    }
}
