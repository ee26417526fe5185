//! Where a bucket is, who one is there, and how hard to press.

use std::path::PathBuf;
use std::time::Duration;

use stillpoint_model::ByteCount;

use super::credentials::CredentialSource;
use crate::target::LockMode;

/// What a bucket's address starts with.
const SCHEME: &str = "s3://";

/// A bucket and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket. It must exist.
    pub bucket: String,
    /// Everything is kept below this; empty, or parts joined by `/`.
    pub prefix: String,
    /// `http://` or `https://`, host and port. None: Amazon's, of the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket is part of the host's name. Else it is the first part of the path.
    pub bucket_in_host: bool,
    /// Who one is.
    pub credentials: CredentialSource,
    /// Certificates (PEM) of the only authorities that the server's certificate may come from.
    /// None: those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// How what is to stay is locked; none locks nothing. Then the bucket must have Object Lock.
    pub object_lock: Option<LockMode>,
    /// How many requests are under way at once.
    pub max_requests: usize,
    /// The most bytes in a second, in each direction.
    pub bandwidth: Option<ByteCount>,
    /// A request is given up when no byte moved for so long.
    pub stall_timeout: Duration,
    /// For how long what failed is tried again.
    pub patience: Duration,
}

/// Why something is no address of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBucket {
    /// The address does not start with `s3://`.
    #[error("the address of a bucket looks like s3://BUCKET/PREFIX")]
    Scheme,
    /// The bucket's name is none.
    #[error("a bucket's name has 3 to 63 letters, digits, `-`, `_` and `.`")]
    Bucket,
    /// The prefix is none.
    #[error("a prefix has parts of letters, digits, `-`, `_` and `.`, joined by `/`")]
    Prefix,
    /// The endpoint is no address of a server.
    #[error("an endpoint looks like https://HOST or http://HOST:PORT, without a path")]
    Endpoint,
}

impl S3Settings {
    /// The bucket at `s3://BUCKET/PREFIX`, with the settings that most servers get along with:
    /// Amazon's endpoint, its first region, credentials from the environment.
    pub fn at(address: &str) -> Result<Self, InvalidBucket> {
        let place = address.strip_prefix(SCHEME).ok_or(InvalidBucket::Scheme)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_end_matches('/');
        if !is_bucket(bucket) {
            return Err(InvalidBucket::Bucket);
        }
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            return Err(InvalidBucket::Prefix);
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: "us-east-1".to_owned(),
            bucket_in_host: false,
            credentials: CredentialSource::Environment,
            ca_file: None,
            object_lock: None,
            max_requests: 16,
            bandwidth: None,
            stall_timeout: Duration::from_secs(60),
            patience: Duration::from_secs(120),
        })
    }

    /// Whether a text means a bucket and not a folder.
    pub fn is_address(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// `s3://BUCKET/PREFIX`.
    pub fn address(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("{SCHEME}{}", self.bucket),
            prefix => format!("{SCHEME}{}/{prefix}", self.bucket),
        }
    }

    /// The key of an object, or what the keys below a prefix start with.
    pub(super) fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// The name of the object that has a key, if it is below the prefix.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        match self.prefix.as_str() {
            "" => Some(key),
            prefix => key.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    /// The URL that keys are put behind.
    pub(super) fn bucket_url(&self) -> Result<String, InvalidBucket> {
        let Some(endpoint) = &self.endpoint else {
            let (bucket, region) = (&self.bucket, &self.region);
            return Ok(format!("https://{bucket}.s3.{region}.amazonaws.com"));
        };
        let (scheme, host) = endpoint
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
            .ok_or(InvalidBucket::Endpoint)?;
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(InvalidBucket::Endpoint);
        }
        Ok(match self.bucket_in_host {
            true => format!("{scheme}://{}.{host}", self.bucket),
            false => format!("{scheme}://{host}/{}", self.bucket),
        })
    }
}

fn is_bucket(text: &str) -> bool {
    (3..=63).contains(&text.len()) && is_part(text)
}

fn is_part(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        let at = |text| S3Settings::at(text).map(|s| (s.bucket.clone(), s.prefix.clone()));
        let pair = |b: &str, p: &str| Ok((b.to_owned(), p.to_owned()));
        assert_eq!(at("s3://backups"), pair("backups", ""));
        assert_eq!(at("s3://backups/"), pair("backups", ""));
        assert_eq!(at("s3://backups/a/b_C/"), pair("backups", "a/b_C"));
        assert_eq!(at("backups/a"), Err(InvalidBucket::Scheme));
        assert_eq!(at("s3://b"), Err(InvalidBucket::Bucket));
        assert_eq!(at("s3:///a"), Err(InvalidBucket::Bucket));
        for text in ["s3://backups/a//b", "s3://backups/../b", "s3://backups/a b"] {
            assert_eq!(at(text), Err(InvalidBucket::Prefix), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_a_server_and_nothing_else() {
        let mut settings = S3Settings::at("s3://backups/x").unwrap();
        let url = |settings: &S3Settings| settings.bucket_url();
        let amazon = "https://backups.s3.us-east-1.amazonaws.com";
        assert_eq!(url(&settings).as_deref(), Ok(amazon));
        settings.endpoint = Some("http://127.0.0.1:7480/".into());
        assert_eq!(
            url(&settings).as_deref(),
            Ok("http://127.0.0.1:7480/backups")
        );
        settings.bucket_in_host = true;
        settings.endpoint = Some("https://objects.example".into());
        assert_eq!(
            url(&settings).as_deref(),
            Ok("https://backups.objects.example")
        );
        for wrong in [
            "objects.example",
            "ftp://x",
            "http://",
            "http://u:p@x",
            "http://x/y",
        ] {
            settings.endpoint = Some(wrong.into());
            assert_eq!(url(&settings), Err(InvalidBucket::Endpoint), "{wrong}");
        }
    }

    #[test]
    fn keys_are_below_the_prefix() {
        let settings = S3Settings::at("s3://backups/a").unwrap();
        assert_eq!(settings.key("v/keys/1"), "a/v/keys/1");
        assert_eq!(settings.name("a/v/keys/1"), Some("v/keys/1"));
        assert_eq!(settings.name("ab/v"), None);
    }
}
