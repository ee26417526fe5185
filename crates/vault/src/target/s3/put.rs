//! Conditional creates: see the picture in the parent.

use bytes::Bytes;
use http::{Method, StatusCode};
use object_store::{ObjectStore as _, PutMode, PutOptions, PutPayload};
use stillpoint_model::{ByteRange, ErrorKind};

use super::answer::{Answer, Trouble};
use super::pace::Attempts;
use super::{Attempt, Bucket, TargetError};

/// What a name holds that a create found taken.
enum Holds {
    Nothing,
    These,
    Others,
}

impl Bucket {
    /// Stores a new object, however many attempts that takes.
    pub(super) async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), TargetError> {
        let mut attempts = Attempts::new(&*self.env, self.settings.patience);
        // Whether an attempt that failed may have been the one that stored it.
        let mut doubt = false;
        loop {
            let once = async || self.put_once(name, bytes.clone()).await;
            let mut trouble = match self.gated(once).await {
                Ok(version) if self.settings.object_lock.is_some() => {
                    let version = version.as_deref();
                    let settle = async || self.settle(name, version).await;
                    match self.persist("put", name, settle).await? {
                        true => return Ok(()),
                        false => Trouble::found(ErrorKind::Conflict, "another one was first"),
                    }
                }
                Ok(_) => return Ok(()),
                Err(trouble) => trouble,
            };
            let is_taken = |answer: &Answer| answer.says_taken();
            if trouble
                .answer
                .as_ref()
                .map_or(trouble.kind == ErrorKind::Conflict, is_taken)
            {
                let holds = async || self.holds(name, &bytes).await;
                match self.persist("read back", name, holds).await? {
                    Holds::These if doubt => return Ok(()),
                    Holds::These | Holds::Others => return Err(self.taken(name, trouble)),
                    Holds::Nothing => trouble.kind = ErrorKind::Retry,
                }
            } else if trouble.leaves_doubt() {
                doubt = true;
            }
            if trouble.kind != ErrorKind::Retry {
                return Err(self.give_up("put", name, trouble));
            }
            if !attempts.another().await {
                let last = self.holds(name, &bytes).await;
                return match last {
                    Ok(Holds::These) if doubt => Ok(()),
                    _ => Err(self.give_up("put", name, trouble)),
                };
            }
            tracing::debug!(name, %trouble, "once more");
        }
    }

    /// One attempt; gives the version, where there are any.
    async fn put_once(&self, name: &str, bytes: Bytes) -> Attempt<Option<String>> {
        let key = self.key(name)?;
        let options = PutOptions::from(PutMode::Create);
        let put = self.store.put_opts(&key, PutPayload::from(bytes), options);
        let stored = put
            .await
            .map_err(|error| Trouble::of(&error, ErrorKind::Retry))?;
        self.note_version(stored.version.as_deref());
        Ok(stored.version)
    }

    /// Compares what a name holds with what was to be stored under it.
    async fn holds(&self, name: &str, bytes: &Bytes) -> Attempt<Holds> {
        let locks = self.settings.object_lock.is_some();
        let there = match locks {
            true => self.first_version(name).await.map(|version| version.len),
            false => self.head_once(name).await.map(|meta| meta.size),
        };
        let there = match there {
            Ok(there) => there,
            Err(trouble) if trouble.is_no_such_object() => return Ok(Holds::Nothing),
            Err(trouble) => return Err(trouble),
        };
        if there != bytes.len() as u64 {
            return Ok(Holds::Others);
        }
        let mut found = vec![];
        let all = ByteRange::new(0, there);
        let read = match locks {
            true => self.get_first(name, all, &mut found).await,
            false => self.get_once(name, all, &mut found).await,
        };
        match read {
            Ok(()) if found == *bytes => Ok(Holds::These),
            Ok(()) => Ok(Holds::Others),
            Err(trouble) if trouble.is_no_such_object() => Ok(Holds::Nothing),
            Err(trouble) => Err(trouble),
        }
    }

    fn taken(&self, name: &str, trouble: Trouble) -> TargetError {
        self.give_up("put", name, trouble.of_kind(ErrorKind::Conflict))
    }

    /// Sends a body that is not the one that was signed; true when the server turns it down.
    pub(super) async fn put_altered(&self, name: &str) -> Attempt<bool> {
        let signed = super::lock::digest(b"what was meant");
        let sent = Bytes::from_static(b"what arrived");
        let answer = self
            .signed_as(Method::PUT, Some(name), "", sent, &signed)
            .await;
        match answer {
            Ok(_) => Ok(false),
            Err(trouble) => match &trouble.answer {
                Some(answer) if answer.status == StatusCode::BAD_REQUEST => Ok(true),
                Some(answer) if answer.status == StatusCode::FORBIDDEN => Ok(true),
                _ => Err(trouble),
            },
        }
    }
}
