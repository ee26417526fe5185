//! What the volumes of a new instance are, as people type it.

use std::str::FromStr;

use clap::Args;
use stillpoint_model::ByteCount;
use stillpoint_wire::instance::InstanceDisk;
use stillpoint_wire::item::ItemKind;
use stillpoint_wire::restore::RestoreSource;

use super::{backup, snapshot};
use crate::failure::{Failure, Result};
use crate::remote::Remote;
use crate::size;

const HOW: &str = "write it as size=10GiB, volume=NAME, image=NAME, snapshot=NAME or \
                   backup=NAME; a new one may end with ,name=NAME";

/// The disks of a new instance.
#[derive(Args, Debug)]
pub struct DiskArgs {
    #[command(flatten)]
    root: RootArgs,
    /// Another volume: size=10GiB, volume=NAME, image=NAME, snapshot=NAME or backup=NAME; a new one
    /// may end with ,name=NAME. May be repeated
    #[arg(long, value_name = "DISK")]
    data: Vec<DiskSpec>,
    /// Use the copy of a backup at once: it is filled from the backup while the instance runs
    #[arg(long)]
    instant: bool,
}

/// What a new instance boots from.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct RootArgs {
    /// Boot from this volume, by name or id
    #[arg(long, value_name = "VOLUME")]
    root_volume: Option<String>,
    /// Boot from a volume that starts as this image, by name or id
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Boot from a copy of this snapshot, by name, id, or VOLUME/NAME
    #[arg(long, value_name = "SNAPSHOT")]
    from_snapshot: Option<String>,
    /// Boot from a copy of this backup, by name, id, or VOLUME/NAME
    #[arg(long, value_name = "BACKUP")]
    from_backup: Option<String>,
    /// Boot from an empty volume of this size, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    root_size: Option<ByteCount>,
}

/// A volume of a new instance.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DiskSpec {
    /// A new volume's name; made of the instance's when absent.
    name: Option<String>,
    from: DiskSource,
}

/// What a volume of a new instance starts as.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DiskSource {
    /// An empty one.
    Size(ByteCount),
    /// One that exists.
    Volume(String),
    /// One that starts as an image.
    Image(String),
    /// A copy of a snapshot.
    Snapshot(String),
    /// A copy of a backup.
    Backup(String),
}

impl DiskArgs {
    /// What a request says of the root and of the others; snapshots and backups are looked up.
    pub async fn find(self, remote: &Remote) -> Result<(InstanceDisk, Vec<InstanceDisk>)> {
        let mut root = self.root.spec()?.find(remote).await?;
        let mut data = Vec::with_capacity(self.data.len());
        for spec in self.data {
            data.push(spec.find(remote).await?);
        }
        if self.instant {
            let all = std::iter::once(&mut root).chain(&mut data);
            let mut copies = all.filter(|disk| disk.source.is_some()).peekable();
            if copies.peek().is_none() {
                let text = "--instant is about a copy of a backup, and there is none";
                return Err(Failure::usage(text));
            }
            copies.for_each(|disk| disk.instant = Some(true));
        }
        Ok((root, data))
    }
}

impl RootArgs {
    fn spec(self) -> Result<DiskSpec> {
        let volume = self.root_volume.map(DiskSource::Volume);
        let from = volume
            .or(self.image.map(DiskSource::Image))
            .or(self.from_snapshot.map(DiskSource::Snapshot))
            .or(self.from_backup.map(DiskSource::Backup))
            .or(self.root_size.map(DiskSource::Size));
        match from {
            Some(from) => Ok(DiskSpec { name: None, from }),
            None => Err(Failure::usage("say what the instance boots from")),
        }
    }
}

impl DiskSpec {
    async fn find(self, remote: &Remote) -> Result<InstanceDisk> {
        let mut disk = InstanceDisk {
            name: self.name,
            ..InstanceDisk::default()
        };
        match self.from {
            DiskSource::Size(size) => disk.size_bytes = Some(size),
            DiskSource::Volume(volume) => disk.volume = Some(volume),
            DiskSource::Image(image) => disk.image = Some(image),
            DiskSource::Snapshot(name) => {
                let found = snapshot::show(remote, &name).await?;
                disk.source = Some(RestoreSource {
                    kind: ItemKind::Snapshot,
                    item: found.id.to_string(),
                });
            }
            DiskSource::Backup(name) => {
                let found = backup::show(remote, &name).await?;
                disk.source = Some(RestoreSource {
                    kind: ItemKind::Backup,
                    item: found.id.to_string(),
                });
            }
        }
        Ok(disk)
    }
}

impl FromStr for DiskSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A name may hold commas; the one of the new volume is what follows the last `,name=`.
        let (what, name) = match text.rsplit_once(",name=") {
            Some((what, name)) => (what, Some(name.to_owned())),
            None => (text, None),
        };
        let (kind, value) = what.split_once('=').ok_or(HOW)?;
        let from = match kind {
            _ if value.is_empty() => return Err(HOW.into()),
            "size" => DiskSource::Size(size::parse(value).map_err(|error| error.to_string())?),
            "volume" if name.is_some() => return Err("a volume that exists has its name".into()),
            "volume" => DiskSource::Volume(value.into()),
            "image" => DiskSource::Image(value.into()),
            "snapshot" => DiskSource::Snapshot(value.into()),
            "backup" => DiskSource::Backup(value.into()),
            _ => return Err(HOW.into()),
        };
        Ok(Self { name, from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_read_as_it_is_typed() {
        let spec = |name: Option<&str>, from| {
            Ok(DiskSpec {
                name: name.map(str::to_owned),
                from,
            })
        };
        let size = DiskSource::Size(ByteCount::from_gib(10));
        for (text, expected) in [
            ("size=10GiB", spec(None, size.clone())),
            ("size=10GiB,name=a, b", spec(Some("a, b"), size)),
            ("volume=a,b", spec(None, DiskSource::Volume("a,b".into()))),
            (
                "snapshot=db/monday",
                spec(None, DiskSource::Snapshot("db/monday".into())),
            ),
            (
                "image=debian,name=a",
                spec(Some("a"), DiskSource::Image("debian".into())),
            ),
            (
                "backup=b,name=copy",
                spec(Some("copy"), DiskSource::Backup("b".into())),
            ),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn a_disk_that_says_nothing_is_refused_with_the_way_to_say_it() {
        for text in ["", "10GiB", "size=", "volume=", "disk=a", "size=much"] {
            assert!(text.parse::<DiskSpec>().is_err(), "{text}");
        }
        assert!("volume=a,name=b".parse::<DiskSpec>().is_err());
        assert_eq!("10GiB".parse::<DiskSpec>(), Err(HOW.to_owned()));
    }
}
