//! Where backups go, as people write it: a folder, or `s3://BUCKET/PREFIX` and how to get there.
//!
//! ```toml
//! [target]
//! kind = "s3"                            # or local, nfs, none
//! address = "s3://backups/stillpoint"
//! endpoint = "https://objects.example"   # without it Amazon's, of the region
//! credentials = "s3-credentials"         # a file; without it the environment
//! object_lock = "compliance"             # or governance; without it nothing is locked
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use stillpoint_model::Env;
use stillpoint_model::error::with_causes;
use stillpoint_model::place::ObjectLock;
use stillpoint_vault::target::{
    CredentialSource, LocalTarget, LockMode, NfsTarget, S3Settings, S3Target, Target,
};

use crate::failure::{Exit, Failure, Result};
use crate::size;

/// The least bandwidth that is accepted: with less, one request would last longer than a server
/// waits.
const LEAST_BANDWIDTH: u64 = 64 << 10;
/// The section of a credentials file that is read when nobody says.
const DEFAULT_PROFILE: &str = "default";

/// How to get to a bucket, on a command line.
#[derive(Args, Debug, Default)]
pub struct BucketArgs {
    /// The server of a bucket, such as https://objects.example [default: Amazon's]
    #[arg(long, value_name = "URL", env = "STILLPOINT_S3_ENDPOINT")]
    s3_endpoint: Option<String>,
    /// The region that a bucket is in [default: us-east-1]
    #[arg(long, value_name = "REGION", env = "STILLPOINT_S3_REGION")]
    s3_region: Option<String>,
    /// A file with the access key of a bucket, as other S3 tools have it [default: AWS_ACCESS_KEY_ID
    /// and AWS_SECRET_ACCESS_KEY of the environment]
    #[arg(long, value_name = "FILE", env = "STILLPOINT_S3_CREDENTIALS")]
    s3_credentials: Option<PathBuf>,
    /// The section of that file to read [default: default]
    #[arg(long, value_name = "NAME", env = "STILLPOINT_S3_PROFILE")]
    s3_profile: Option<String>,
    /// Certificates (PEM) of the only authorities that the server's certificate may come from
    #[arg(long, value_name = "FILE", env = "STILLPOINT_S3_CA")]
    s3_ca: Option<PathBuf>,
    /// The bucket is part of the host's name
    #[arg(long)]
    s3_bucket_in_host: bool,
    /// The bucket has Object Lock, and the server that filled it locks in this mode: objects that
    /// somebody hid or put something over are read as they were
    #[arg(long, value_name = "MODE", env = "STILLPOINT_S3_OBJECT_LOCK")]
    s3_object_lock: Option<LockWord>,
}

/// How objects are locked, as people write it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum LockWord {
    Governance,
    Compliance,
}

impl From<LockWord> for LockMode {
    fn from(word: LockWord) -> Self {
        match word {
            LockWord::Governance => Self::Governance,
            LockWord::Compliance => Self::Compliance,
        }
    }
}

/// The table `[target]` of the server's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTable {
    kind: Kind,
    folder: Option<PathBuf>,
    address: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<PathBuf>,
    profile: Option<String>,
    ca: Option<PathBuf>,
    #[serde(default)]
    bucket_in_host: bool,
    object_lock: Option<LockWord>,
    max_requests: Option<usize>,
    bandwidth: Option<String>,
    patience_seconds: Option<u64>,
}

impl TargetTable {
    /// The region that it says it is in.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }
}

/// A file with a `[target]` and nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetFile {
    /// The target.
    pub target: TargetTable,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Local,
    Nfs,
    S3,
    None,
}

/// Where backups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Nowhere,
    /// A folder of this machine; none is the data folder's own.
    Folder(Option<PathBuf>),
    /// A folder of another machine, mounted here.
    Mount(PathBuf),
    /// A bucket.
    Bucket(Box<S3Settings>),
}

impl Place {
    /// What a command line says.
    pub fn of_args(text: &str, bucket: BucketArgs) -> Result<Self> {
        if !S3Settings::is_address(text) {
            return Ok(Self::Folder(Some(text.into())));
        }
        let mut settings =
            S3Settings::at(text).map_err(|error| Failure::usage(error.to_string()))?;
        settings.endpoint = bucket.s3_endpoint;
        if let Some(region) = bucket.s3_region {
            settings.region = region;
        }
        settings.credentials = credentials(bucket.s3_credentials, bucket.s3_profile);
        settings.ca_file = bucket.s3_ca;
        settings.bucket_in_host = bucket.s3_bucket_in_host;
        settings.object_lock = bucket.s3_object_lock.map(LockMode::from);
        Ok(Self::Bucket(Box::new(settings)))
    }

    /// What a settings file says; `beside` finds the paths in it.
    pub fn of_table(table: TargetTable, beside: impl Fn(PathBuf) -> PathBuf) -> Result<Self> {
        table.refuse_what_does_not_belong()?;
        match (table.kind, table.folder.clone(), table.address.clone()) {
            (Kind::None, ..) => Ok(Self::Nowhere),
            (Kind::Local, folder, _) => Ok(Self::Folder(folder.map(beside))),
            (Kind::Nfs, Some(folder), _) => Ok(Self::Mount(beside(folder))),
            (Kind::Nfs, None, _) => Err(mistake("kind nfs needs `folder`, where it is mounted")),
            (Kind::S3, _, None) => Err(mistake("kind s3 needs `address`, as s3://BUCKET/PREFIX")),
            (Kind::S3, _, Some(address)) => {
                let settings = S3Settings::at(&address);
                let settings = settings.map_err(|error| mistake(&error.to_string()))?;
                let settings = table.apply_to(settings, beside)?;
                Ok(Self::Bucket(Box::new(settings)))
            }
        }
    }

    /// The word for its kind, which is also its name in a new installation.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Nowhere => None,
            Self::Folder(_) => Some("local"),
            Self::Mount(_) => Some("nfs"),
            Self::Bucket(_) => Some("s3"),
        }
    }

    /// How what is to stay is locked there, in the words of the API.
    pub fn object_lock(&self) -> Option<ObjectLock> {
        let Self::Bucket(settings) = self else {
            return None;
        };
        settings.object_lock.map(|mode| match mode {
            LockMode::Governance => ObjectLock::Governance,
            LockMode::Compliance => ObjectLock::Compliance,
        })
    }

    /// Gets ready to use it. `own` is the data folder's own folder; without one, a folder must be
    /// named.
    pub fn open(
        &self,
        own: Option<PathBuf>,
        env: &Arc<dyn Env>,
    ) -> Result<Option<Arc<dyn Target>>> {
        let opened: Arc<dyn Target> = match self {
            Self::Nowhere => return Ok(None),
            Self::Folder(folder) => {
                let folder = folder.clone().or(own).unwrap_or_default();
                // Whoever calls a mounted folder local gets the rules that it needs all the same.
                match NfsTarget::is_mounted(&folder) {
                    true => Arc::new(NfsTarget::open(folder).map_err(|error| unusable(&error))?),
                    false => Arc::new(LocalTarget::open(folder).map_err(|error| unusable(&error))?),
                }
            }
            Self::Mount(folder) => {
                Arc::new(NfsTarget::open(folder).map_err(|error| unusable(&error))?)
            }
            Self::Bucket(settings) => Arc::new(
                S3Target::open((**settings).clone(), Arc::clone(env))
                    .map_err(|error| unusable(&error))?,
            ),
        };
        Ok(Some(opened))
    }
}

impl TargetTable {
    /// How to get to a bucket.
    fn apply_to(
        self,
        settings: S3Settings,
        beside: impl Fn(PathBuf) -> PathBuf,
    ) -> Result<S3Settings> {
        let bandwidth = match self.bandwidth.as_deref().map(size::parse) {
            Some(Ok(rate)) if rate.get() < LEAST_BANDWIDTH => {
                return Err(mistake("`bandwidth` is at least 64KiB (in a second)"));
            }
            Some(Err(error)) => return Err(mistake(&error.to_string())),
            Some(Ok(rate)) => Some(rate),
            None => None,
        };
        let patience = self.patience_seconds.map(Duration::from_secs);
        Ok(S3Settings {
            endpoint: self.endpoint,
            region: self.region.unwrap_or(settings.region),
            bucket_in_host: self.bucket_in_host,
            credentials: credentials(self.credentials.map(&beside), self.profile),
            ca_file: self.ca.map(beside),
            object_lock: self.object_lock.map(LockMode::from),
            max_requests: self.max_requests.unwrap_or(settings.max_requests),
            bandwidth,
            patience: patience.unwrap_or(settings.patience),
            ..settings
        })
    }

    /// A key that means nothing for the kind is a mistake that somebody should hear of.
    fn refuse_what_does_not_belong(&self) -> Result<()> {
        let of_buckets = [
            ("address", self.address.is_some()),
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("credentials", self.credentials.is_some()),
            ("profile", self.profile.is_some()),
            ("ca", self.ca.is_some()),
            ("bucket_in_host", self.bucket_in_host),
            ("object_lock", self.object_lock.is_some()),
            ("max_requests", self.max_requests.is_some()),
            ("bandwidth", self.bandwidth.is_some()),
            ("patience_seconds", self.patience_seconds.is_some()),
        ];
        let of_folders = [("folder", self.folder.is_some())];
        let foreign: &[(&str, bool)] = match self.kind {
            Kind::S3 => &of_folders,
            Kind::Local | Kind::Nfs | Kind::None => &of_buckets,
        };
        let nowhere = self.kind == Kind::None && self.folder.is_some();
        let found = foreign.iter().find(|(_, given)| *given);
        match found.map(|(key, _)| *key).or(nowhere.then_some("folder")) {
            Some(key) => Err(mistake(&format!("`{key}` does not belong to this kind"))),
            None => Ok(()),
        }
    }
}

/// Why a target cannot be used, for whoever set it up.
pub fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Other, "backup_target", with_causes(error))
}

fn credentials(file: Option<PathBuf>, profile: Option<String>) -> CredentialSource {
    match file {
        None => CredentialSource::Environment,
        Some(path) => CredentialSource::File {
            path,
            profile: profile.unwrap_or_else(|| DEFAULT_PROFILE.to_owned()),
        },
    }
}

fn mistake(text: &str) -> Failure {
    Failure::new(Exit::Usage, "config", format!("[target]: {text}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn place(toml: &str) -> Result<Place> {
        let table = toml::from_str(toml).expect("TOML");
        Place::of_table(table, |path| Path::new("/etc").join(path))
    }

    fn mistaken(toml: &str) -> String {
        let failure = place(toml).expect_err("a mistake").to_string();
        anstream::adapter::strip_str(&failure).to_string()
    }

    #[test]
    fn a_bucket_has_an_address_and_what_leads_there() {
        let found = place(
            "kind = 's3'\naddress = 's3://backups/a'\nendpoint = 'https://objects.example'\n\
             credentials = 's3'\nca = '/ca.pem'\nbandwidth = '50MiB'\nmax_requests = 3",
        );
        let Ok(Place::Bucket(settings)) = found else {
            panic!("{found:?}");
        };
        assert_eq!(settings.address(), "s3://backups/a");
        assert_eq!(settings.ca_file.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(settings.bandwidth.map(|rate| rate.get()), Some(50 << 20));
        assert_eq!(
            settings.credentials,
            CredentialSource::File {
                path: "/etc/s3".into(),
                profile: "default".into()
            }
        );
    }

    #[test]
    fn a_bucket_may_lock_in_two_ways() {
        let bucket = "kind = 's3'\naddress = 's3://backups/a'\n";
        let mode = |line: &str| match place(&format!("{bucket}{line}")) {
            Ok(Place::Bucket(settings)) => settings.object_lock,
            other => panic!("{other:?}"),
        };
        assert_eq!(mode(""), None);
        assert_eq!(
            mode("object_lock = 'governance'"),
            Some(LockMode::Governance)
        );
        assert_eq!(
            mode("object_lock = 'compliance'"),
            Some(LockMode::Compliance)
        );
        assert_eq!(
            mistaken("kind = 'local'\nobject_lock = 'governance'"),
            "error[config]: [target]: `object_lock` does not belong to this kind"
        );
    }

    #[test]
    fn folders_are_local_or_mounted() {
        assert_eq!(place("kind = 'local'"), Ok(Place::Folder(None)));
        assert_eq!(
            place("kind = 'nfs'\nfolder = 'mnt'"),
            Ok(Place::Mount("/etc/mnt".into()))
        );
        assert_eq!(place("kind = 'none'"), Ok(Place::Nowhere));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            mistaken("kind = 's3'"),
            "error[config]: [target]: kind s3 needs `address`, as s3://BUCKET/PREFIX"
        );
        assert_eq!(
            mistaken("kind = 'nfs'\nfolder = '/mnt'\nregion = 'x'"),
            "error[config]: [target]: `region` does not belong to this kind"
        );
        assert_eq!(
            mistaken("kind = 's3'\naddress = 's3://backups'\nbandwidth = '1k'"),
            "error[config]: [target]: `bandwidth` is at least 64KiB (in a second)"
        );
    }
}
