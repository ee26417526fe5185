//! Who acts: passwords, sessions and tokens.
//!
//! Passwords are hashed with argon2id, two at a time at most, off the async threads, and an
//! unknown login costs what a wrong password costs. Sessions and tokens are 32 bytes that only
//! their owner keeps, random or derived from a random key of this process; the database knows
//! their BLAKE3 hash. A cache answers for a few seconds
//! who a secret stands for; whatever ends a credential empties it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stillpoint_model::account::Actor;
use stillpoint_model::id::{RequestId, SessionId, TokenId};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::{Env, Timestamp};
use stillpoint_store::account::{UserRow, user_by_id, user_by_login};
use stillpoint_store::session::{session_by_hash, session_delete, session_insert};
use stillpoint_store::token::{token_by_hash, token_touch};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::audit::{self, Entry};
use crate::error::{Error, Result};
use crate::{Context, Secret};

/// Passwords hashed at once: each takes 19 MiB.
const HASHES_AT_ONCE: usize = 2;
/// Sign-ins that may wait for their turn.
const SIGN_INS_WAITING: usize = 32;
/// The longest password that is looked at.
const MAX_PASSWORD_BYTES: usize = 1024;
/// How long a credential is believed without asking the database.
const CACHE_TIME: Duration = Duration::from_secs(10);
/// Credentials remembered at once.
const CACHE_SIZE: usize = 1024;
/// How exact the time of a token's last use is.
const TOUCH_EVERY: Duration = Duration::from_mins(5);
/// What every API token begins with.
const TOKEN_PREFIX: &str = "stp_";
/// What every session's secret begins with.
const SESSION_PREFIX: &str = "sts_";

/// Passwords and the cache of credentials.
pub(crate) struct Gate {
    hashing: Semaphore,
    waiting: Semaphore,
    cache: Mutex<Cache>,
    /// The hash of a password that nobody has, for logins that do not exist.
    decoy: String,
    /// What the secrets of new tokens are derived from. It ends with this process.
    token_key: [u8; 32],
}

#[derive(Default)]
struct Cache {
    known: HashMap<blake3::Hash, Known>,
    /// Grows with each credential that ends, so that nobody is remembered from before.
    ends: u64,
}

#[derive(Clone)]
struct Known {
    actor: Actor,
    until: Duration,
    expires_at: Option<Timestamp>,
}

impl Gate {
    pub(crate) fn new(env: &dyn Env) -> Self {
        let mut salt = [0; 16];
        env.fill_random(&mut salt);
        let mut token_key = [0; 32];
        env.fill_random(&mut token_key);
        Self {
            token_key,
            hashing: Semaphore::new(HASHES_AT_ONCE),
            waiting: Semaphore::new(SIGN_INS_WAITING),
            cache: Mutex::default(),
            decoy: format!(
                "argon2id${}${}",
                URL_SAFE_NO_PAD.encode(salt),
                "A".repeat(43)
            ),
        }
    }

    /// The secret of a token that this process makes. It is derived, so that a repeated request
    /// can be answered again although nobody keeps the secret.
    pub(crate) fn token_secret(&self, id: TokenId) -> Secret {
        let bytes = blake3::keyed_hash(&self.token_key, id.as_uuid().as_bytes());
        Secret::new(format!(
            "{TOKEN_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(bytes.as_bytes())
        ))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everybody: a credential ended.
    pub(crate) fn forget(&self) {
        let mut cache = self.cache();
        cache.known.clear();
        cache.ends += 1;
    }

    fn known(&self, hash: &blake3::Hash, cx: &Context) -> Option<Actor> {
        let cache = self.cache();
        let known = cache.known.get(hash)?;
        let fresh = cx.env().monotonic() < known.until;
        let valid = known.expires_at.is_none_or(|end| cx.now() < end);
        (fresh && valid).then(|| known.actor.clone())
    }

    /// Remembers what was looked up when `ends` credentials had ended.
    fn remember(&self, hash: blake3::Hash, known: Known, ends: u64) {
        let mut cache = self.cache();
        if cache.ends != ends {
            return;
        }
        if cache.known.len() >= CACHE_SIZE {
            cache.known.clear();
        }
        cache.known.insert(hash, known);
    }
}

/// What a request shows to say who it is from.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// An API token, from `Authorization: Bearer`.
    Bearer(&'a str),
    /// A browser session, from the cookie.
    Session(&'a str),
}

/// A browser session that was just opened.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// What the cookie carries.
    pub session_secret: Secret,
    /// What each change must show beside the cookie.
    pub csrf_token: String,
    /// Who signed in.
    pub actor: Actor,
    /// When the session ends.
    pub expires_at: Timestamp,
}

/// A secret of 32 random bytes.
fn generate_secret(env: &dyn Env, prefix: &str) -> Secret {
    let mut bytes = [0; 32];
    env.fill_random(&mut bytes);
    Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What the database keeps of a secret. The secret is random, so a fast hash is enough.
pub(crate) fn hash_secret(secret: &str) -> blake3::Hash {
    blake3::hash(secret.as_bytes())
}

fn argon2id(password: &[u8], salt: &[u8]) -> Result<[u8; 32]> {
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
        .hash_password_into(password, salt, &mut hash)
        .map_err(Error::PasswordHash)?;
    Ok(hash)
}

/// Hashes a new password.
pub(crate) async fn hash_password(cx: &Context, password: &Secret) -> Result<String> {
    let mut salt = [0; 16];
    cx.env().fill_random(&mut salt);
    let password = password.clone();
    let work = move || argon2id(password.expose().as_bytes(), &salt);
    let hash = tokio::task::spawn_blocking(work).await??;
    Ok(format!(
        "argon2id${}${}",
        URL_SAFE_NO_PAD.encode(salt),
        URL_SAFE_NO_PAD.encode(hash)
    ))
}

/// Whether a password is the one that was hashed. Always does the whole work.
async fn check_password(cx: &Context, password: &str, stored: &str) -> Result<bool> {
    let gate = cx.gate();
    let busy = || {
        let text = "Too many sign-ins at once. Try again in a moment.";
        Refusal::new(ProblemCode::TooManyRequests, text).after(Duration::from_secs(2))
    };
    let _queued = gate.waiting.try_acquire().map_err(|_| busy())?;
    let _turn = gate.hashing.acquire().await.map_err(|_| busy())?;
    let unreadable = || Error::Inconsistent("a password hash cannot be read".to_owned());
    let mut parts = stored.split('$').skip(1);
    let mut next = || {
        let part = parts.next().ok_or_else(unreadable)?;
        URL_SAFE_NO_PAD.decode(part).map_err(|_| unreadable())
    };
    let (salt, expected) = (next()?, next()?);
    let password = password.to_owned();
    let hash = tokio::task::spawn_blocking(move || argon2id(password.as_bytes(), &salt)).await??;
    Ok(hash.as_slice().ct_eq(&expected).into())
}

fn wrong_credentials() -> Error {
    Refusal::new(ProblemCode::Unauthenticated, "Login or password is wrong.").into()
}

fn actor_of(row: &UserRow, request_id: RequestId) -> Actor {
    Actor {
        account_id: row.user.account_id,
        project_id: row.project_id,
        user_id: row.user.id,
        login: row.user.login.clone(),
        role: row.user.role,
        request_id,
    }
}

/// The actor that a login stands for, for the composition root.
pub(crate) async fn actor_by_login(
    cx: &Context,
    login: &str,
    request_id: RequestId,
) -> Result<Option<Actor>> {
    let row = user_by_login(&mut *cx.db().read().await?, login).await?;
    Ok(row.map(|row| actor_of(&row, request_id)))
}

/// Opens a browser session. A wrong password and an unknown login cost and answer the same.
pub async fn sign_in(
    cx: &Context,
    login: &str,
    password: &str,
    request_id: RequestId,
) -> Result<SignedIn> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(wrong_credentials());
    }
    let row = user_by_login(&mut *cx.db().read().await?, login).await?;
    let stored = row
        .as_ref()
        .map_or(&cx.gate().decoy, |row| &row.password_hash);
    let right = check_password(cx, password, stored).await?;
    let Some(row) = row.filter(|_| right) else {
        return Err(wrong_credentials());
    };
    let actor = actor_of(&row, request_id);
    let secret = generate_secret(cx.env(), SESSION_PREFIX);
    let now = cx.now();
    let expires_at = now.saturating_add(cx.settings().session);
    let id = SessionId::generate(cx.env());
    let (hash, who) = (hash_secret(secret.expose()).to_hex(), actor.clone());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                session_insert(tx, id, who.user_id, &hash, now, expires_at).await?;
                audit::record(tx, Entry::new(&who, "session_create", id.as_uuid()), now).await
            })
        })
        .await?;
    let csrf_token = csrf_token(secret.expose());
    Ok(SignedIn {
        session_secret: secret,
        csrf_token,
        actor,
        expires_at,
    })
}

/// Ends a browser session; one that is over already is no error.
pub async fn sign_out(cx: &Context, session_secret: &str) -> Result<()> {
    let hash = hash_secret(session_secret).to_hex();
    let (now, request_id) = (cx.now(), RequestId::generate(cx.env()));
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                let Some((id, user_id, _)) = session_by_hash(tx, &hash).await? else {
                    return Ok::<_, Error>(());
                };
                session_delete(tx, id).await?;
                let Some(row) = user_by_id(tx, user_id).await? else {
                    return Ok(());
                };
                let actor = actor_of(&row, request_id);
                audit::record(tx, Entry::new(&actor, "session_delete", id.as_uuid()), now).await
            })
        })
        .await?;
    cx.gate().forget();
    Ok(())
}

/// Whom a credential stands for.
pub async fn authenticate(
    cx: &Context,
    credential: Credential<'_>,
    request_id: RequestId,
) -> Result<Actor> {
    let secret = match credential {
        Credential::Bearer(secret) if secret.starts_with(TOKEN_PREFIX) => secret,
        Credential::Session(secret) if secret.starts_with(SESSION_PREFIX) => secret,
        _ => return Err(not_signed_in()),
    };
    let hash = hash_secret(secret);
    if let Some(actor) = cx.gate().known(&hash, cx) {
        return Ok(Actor {
            request_id,
            ..actor
        });
    }
    let ends = cx.gate().cache().ends;
    let (row, expires_at, used) = look_up(cx, credential, &hash.to_hex()).await?;
    let now = cx.now();
    if expires_at.is_some_and(|end| end <= now) {
        return Err(not_signed_in());
    }
    if let Some((token, last)) = used
        && last.is_none_or(|last| now.duration_since(last) >= TOUCH_EVERY)
    {
        cx.db()
            .write(move |tx| Box::pin(async move { token_touch(tx, token, now).await }))
            .await
            .map_err(Error::Store)?;
    }
    let actor = actor_of(&row, request_id);
    let until = cx.env().monotonic() + CACHE_TIME;
    cx.gate().remember(
        hash,
        Known {
            actor: actor.clone(),
            until,
            expires_at,
        },
        ends,
    );
    Ok(actor)
}

type Found = (
    UserRow,
    Option<Timestamp>,
    Option<(TokenId, Option<Timestamp>)>,
);

async fn look_up(cx: &Context, credential: Credential<'_>, hash: &str) -> Result<Found> {
    let mut conn = cx.db().read().await?;
    let (user_id, expires_at, used) = match credential {
        Credential::Bearer(_) => {
            let token = token_by_hash(&mut conn, hash)
                .await?
                .ok_or_else(not_signed_in)?;
            (
                token.user_id,
                token.expires_at,
                Some((token.id, token.last_used_at)),
            )
        }
        Credential::Session(_) => {
            let found = session_by_hash(&mut conn, hash)
                .await?
                .ok_or_else(not_signed_in)?;
            (found.1, Some(found.2), None)
        }
    };
    let row = user_by_id(&mut conn, user_id)
        .await?
        .ok_or_else(not_signed_in)?;
    Ok((row, expires_at, used))
}

fn not_signed_in() -> Error {
    let text = "Sign in, or send an API token that works.";
    Refusal::new(ProblemCode::Unauthenticated, text).into()
}

/// What each change made with this session's cookie must show. Derived from the secret.
pub fn csrf_token(session_secret: &str) -> String {
    let key = blake3::derive_key("stillpoint csrf token v1", session_secret.as_bytes());
    URL_SAFE_NO_PAD.encode(key)
}

/// Whether a request showed the session's token; compared in constant time.
pub fn is_csrf_token(session_secret: &str, shown: &str) -> bool {
    csrf_token(session_secret)
        .as_bytes()
        .ct_eq(shown.as_bytes())
        .into()
}
