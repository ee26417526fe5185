//! What the server is told: options, then `STILLPOINT_*`, then the file, then the defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use stillpoint_model::care::CareTerms;
use stillpoint_model::instance::Flavors;
use stillpoint_model::plan::Plan;

use super::backup_target::note_of;
use super::self_backup::DatabaseTerms;
use crate::config;
use crate::failure::{Exit, Failure, Result};
use crate::target::{Place, TargetTable};

/// What is logged when nobody says.
const DEFAULT_LOG: &str = "info";
/// The plan that is built in.
const DEFAULT_PLAN: &str = include_str!("../../../../presets/stillpoint.toml");

/// What instances are made of.
const FLAVORS: &str = include_str!("../../../../presets/flavors.toml");

/// What the server is told on the command line or by the environment.
#[derive(Args, Debug, Default)]
pub struct SettingsArgs {
    /// The folder that holds everything the server keeps [default: /var/lib/stillpoint for root,
    /// else ~/.local/share/stillpoint]
    #[arg(long, value_name = "DIR", env = "STILLPOINT_DATA")]
    data: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8420]
    #[arg(long, value_name = "ADDR", env = "STILLPOINT_LISTEN", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// Settings in TOML: data, listen, plan, log, qemu, target, second_target, care,
    /// database
    #[arg(long, value_name = "FILE", env = "STILLPOINT_CONFIG")]
    config: Option<PathBuf>,
    /// The rules for new volumes, in TOML, instead of the built-in plan `stillpoint`
    #[arg(long, value_name = "FILE", env = "STILLPOINT_PLAN")]
    plan: Option<PathBuf>,
    /// What to log on stderr: error, warn, info, debug, or a filter such as info,sqlx=debug
    /// [default: info]
    #[arg(long, value_name = "FILTER", env = "STILLPOINT_LOG")]
    log: Option<String>,
    /// The QEMU that runs instances, or `none` [default: qemu-system-x86_64, where it is installed]
    #[arg(long, value_name = "PROGRAM", env = "STILLPOINT_QEMU")]
    qemu: Option<PathBuf>,
    /// Make the volume `demo` for the tenant, at the first start
    #[arg(long)]
    demo: bool,
}

/// The settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    data: Option<PathBuf>,
    #[serde(default, deserialize_with = "read_address")]
    listen: Option<SocketAddr>,
    plan: Option<PathBuf>,
    log: Option<String>,
    qemu: Option<PathBuf>,
    target: Option<TargetTable>,
    second_target: Option<TargetTable>,
    #[serde(default)]
    care: CareTerms,
    #[serde(default)]
    database: DatabaseTerms,
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no address; one looks like 127.0.0.1:8420"))
}

fn read_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text).map(Some).map_err(D::Error::custom)
}

/// What the server runs with.
#[derive(Debug)]
pub struct Settings {
    /// The file with settings, wherever the server was started.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The rules for new volumes.
    pub plan: Plan,
    /// What instances are made of.
    pub flavors: Flavors,
    /// Where backups go.
    pub target: Place,
    /// Where copies of backups go, when an administrator says so.
    pub second_target: Place,
    /// The region that the second target says it is in.
    pub second_region: Option<String>,
    /// When and how vaults are cared for.
    pub care: CareTerms,
    /// When the database is backed up.
    pub database: DatabaseTerms,
    /// What to log.
    pub log: String,
    /// The QEMU that runs instances.
    pub qemu: Qemu,
    /// Whether the first start makes a volume to try things on.
    pub demo: bool,
}

impl Settings {
    /// Puts the sources together and reads the files they name.
    pub fn load(args: SettingsArgs) -> Result<Self> {
        let file: SettingsFile = match &args.config {
            Some(path) => config::read(path)?,
            None => SettingsFile::default(),
        };
        let beside = |path: PathBuf| beside(args.config.as_deref(), path);
        let plan = match args.plan.or(file.plan.map(beside)) {
            Some(path) => config::read(&path)?,
            None => config::parse(DEFAULT_PLAN, Path::new("presets/stillpoint.toml"))?,
        };
        let config = args.config.as_deref();
        let second_region = file.second_target.as_ref().and_then(TargetTable::region);
        let second_region = second_region.map(str::to_owned);
        let [target, second_target] = places(file.target, file.second_target, config)?;
        Ok(Self {
            target,
            second_target,
            second_region,
            config: config.map(absolute).transpose()?,
            care: file.care,
            database: file.database,
            data: args
                .data
                .or(file.data.map(beside))
                .unwrap_or_else(default_data),
            listen: match args.listen.or(file.listen) {
                Some(listen) => listen,
                None => default_listen(),
            },
            plan,
            flavors: config::parse(FLAVORS, Path::new("presets/flavors.toml"))?,
            log: args.log.or(file.log).unwrap_or_else(|| DEFAULT_LOG.into()),
            qemu: Qemu::of(args.qemu.or(file.qemu)),
            demo: args.demo,
        })
    }
}

/// A path in a settings file means the file's own folder, wherever the server is started.
fn beside(config: Option<&Path>, path: PathBuf) -> PathBuf {
    match config.and_then(Path::parent) {
        Some(folder) => folder.join(path),
        None => path,
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Failure::file(format_args!("open {}", path.display()), &error))
}

/// Where backups go and where copies of them, as a settings file says it.
fn places(
    first: Option<TargetTable>,
    second: Option<TargetTable>,
    config: Option<&Path>,
) -> Result<[Place; 2]> {
    let beside = |path| beside(config, path);
    let first = match first {
        Some(table) => Place::of_table(table, beside)?,
        None => Place::Folder(None),
    };
    let second = second_place(second, &first, beside)?;
    Ok([first, second])
}

/// Where the backups of a server go that has these settings, and where copies of them.
pub fn targets_of(config: Option<&Path>) -> Result<[Place; 2]> {
    let file: SettingsFile = match config {
        Some(path) => config::read(path)?,
        None => SettingsFile::default(),
    };
    places(file.target, file.second_target, config)
}

/// Where copies go. It is named, and another place than that of the backups.
fn second_place(
    table: Option<TargetTable>,
    first: &Place,
    beside: impl Fn(PathBuf) -> PathBuf,
) -> Result<Place> {
    let Some(table) = table else {
        return Ok(Place::Nowhere);
    };
    let second = Place::of_table(table, beside)?;
    let mistake = |text: &str| Failure::new(Exit::Usage, "config", text.to_owned());
    match &second {
        Place::Folder(None) => Err(mistake("[second_target]: kind local needs `folder`")),
        Place::Nowhere => Ok(second),
        _ if *first == Place::Nowhere => Err(mistake(
            "[second_target]: there is no target whose backups could be copied",
        )),
        _ if note_of(&second) == note_of(first) => Err(mistake(
            "[second_target]: copies go to another place than the backups",
        )),
        _ => Ok(second),
    }
}

/// The QEMU that runs instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Qemu {
    /// The one that is installed, if any is.
    Installed,
    /// This one: a name to look for, or a path.
    Named(PathBuf),
    /// None: this server runs no instances.
    None,
}

impl Qemu {
    fn of(named: Option<PathBuf>) -> Self {
        match named {
            None => Self::Installed,
            Some(word) if word.as_os_str() == "none" => Self::None,
            Some(path) => Self::Named(path),
        }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8420))
}

/// The data folder when nobody says.
pub fn default_data() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/stillpoint".into();
    }
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/share")))
        .unwrap_or_default();
    base.join("stillpoint")
}
