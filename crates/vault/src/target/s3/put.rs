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
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            if trouble.answer.as_ref().is_some_and(Answer::says_taken) {
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

    async fn put_once(&self, name: &str, bytes: Bytes) -> Attempt<()> {
        let key = self.key(name)?;
        let options = PutOptions::from(PutMode::Create);
        let put = self.store.put_opts(&key, PutPayload::from(bytes), options);
        let stored = put
            .await
            .map_err(|error| Trouble::of(&error, ErrorKind::Retry))?;
        self.note_version(stored.version.as_deref());
        Ok(())
    }

    /// Compares what a name holds with what was to be stored under it.
    async fn holds(&self, name: &str, bytes: &Bytes) -> Attempt<Holds> {
        let there = match self.head_once(name).await {
            Ok(meta) => meta.size,
            Err(trouble) if trouble.is_no_such_object() => return Ok(Holds::Nothing),
            Err(trouble) => return Err(trouble),
        };
        if there != bytes.len() as u64 {
            return Ok(Holds::Others);
        }
        let mut found = vec![];
        match self
            .get_once(name, ByteRange::new(0, there), &mut found)
            .await
        {
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
