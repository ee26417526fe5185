//! Images that lie and settings with a typo, given to the real server: each is refused with a
//! reason, and leaves nothing behind.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it did"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::inotify;
use stillpoint_client::{Change, ListQuery};
use stillpoint_model::ByteCount;
use stillpoint_tests::leftovers::no_leftovers;
use stillpoint_tests::person::Person;
use stillpoint_tests::process::run;
use stillpoint_tests::server::{Server, stillpoint_binary};
use stillpoint_wire::image::ImageCreate;
use stillpoint_wire::item::ItemState;
use stillpoint_wire::problem::ProblemCode;
use stillpoint_wire::upload::{ImageFormat, UploadSource};
use stillpoint_wire::volume::VolumeState;

const MIB: usize = 1 << 20;

/// Where the fields of a qcow2 header are (QEMU's docs/interop/qcow2.rst).
mod header {
    pub const VERSION: usize = 4;
    pub const BACKING_OFFSET: usize = 8;
    pub const BACKING_LEN: usize = 16;
    pub const CLUSTER_BITS: usize = 20;
    pub const VIRTUAL_SIZE: usize = 24;
    pub const ENCRYPTION: usize = 32;
    pub const L1_ENTRIES: usize = 36;
    pub const L1_OFFSET: usize = 40;
    pub const REFCOUNT_OFFSET: usize = 48;
    pub const INCOMPATIBLE: usize = 72;
    pub const REFCOUNT_ORDER: usize = 96;
    pub const LEN: usize = 100;
}

/// An image that must be refused.
struct Lie {
    name: &'static str,
    format: ImageFormat,
    bytes: Vec<u8>,
}

/// A sound qcow2 image of 8 MiB with something in it.
fn honest(folder: &Path) -> Vec<u8> {
    let raw = folder.join("honest.raw");
    fs::write(&raw, vec![0x5a; 8 * MIB]).unwrap();
    let image = folder.join("honest.qcow2");
    run(Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([&raw, &image]));
    fs::read(image).unwrap()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn number(bytes: &[u8], at: usize) -> usize {
    let eight: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
    usize::try_from(u64::from_be_bytes(eight)).unwrap()
}

/// The honest image with one field changed.
fn changed(honest: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    put(&mut bytes, at, value);
    bytes
}

/// The honest image naming another file below it.
fn backed_by(honest: &[u8], file: &str) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    // After the header and its extensions, before the first table.
    let at = 4096;
    put(&mut bytes, at, file.as_bytes());
    put(
        &mut bytes,
        header::BACKING_OFFSET,
        &(at as u64).to_be_bytes(),
    );
    let len = u32::try_from(file.len()).unwrap();
    put(&mut bytes, header::BACKING_LEN, &len.to_be_bytes());
    bytes
}

/// The honest image with this in front of its header extensions.
fn with_extension(honest: &[u8], kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    let start = number(honest, header::LEN) >> 32;
    let mut extension = [
        kind.to_be_bytes(),
        u32::try_from(data.len()).unwrap().to_be_bytes(),
    ]
    .concat();
    extension.extend_from_slice(data);
    extension.resize(extension.len().next_multiple_of(8) + 8, 0);
    put(&mut bytes, start, &extension);
    bytes
}

#[expect(clippy::too_many_lines, reason = "a table, one line each")]
fn lies(honest: &[u8]) -> Vec<Lie> {
    use header as h;
    let l1 = number(honest, h::L1_OFFSET);
    let l2 = number(honest, l1) & 0x00ff_ffff_ffff_fe00;
    let incompatible = |bit: u32| changed(honest, h::INCOMPATIBLE, &(1_u64 << bit).to_be_bytes());
    let qcow2 = |name, bytes| Lie {
        name,
        format: ImageFormat::Qcow2,
        bytes,
    };
    let mut external = with_extension(honest, 0x4441_5441, b"/etc/passwd");
    put(&mut external, h::INCOMPATIBLE, &4_u64.to_be_bytes());
    vec![
        qcow2(
            "a virtual size of 1 PiB",
            changed(honest, h::VIRTUAL_SIZE, &(1_u64 << 50).to_be_bytes()),
        ),
        qcow2(
            "a virtual size of all there is",
            changed(honest, h::VIRTUAL_SIZE, &[0xff; 8]),
        ),
        qcow2(
            "a virtual size of nothing",
            changed(honest, h::VIRTUAL_SIZE, &[0; 8]),
        ),
        qcow2("cut in its header", honest[..50].to_vec()),
        qcow2("cut in its tables", honest[..l1 + 4].to_vec()),
        qcow2("cut in its data", honest[..honest.len() - 3 * MIB].to_vec()),
        qcow2("raw bytes that are called qcow2", vec![0x5a; MIB]),
        qcow2("another magic number", changed(honest, 0, b"QFI\xfa")),
        qcow2("a VMDK", b"KDMV".repeat(1000)),
        qcow2(
            "version 1",
            changed(honest, h::VERSION, &1_u32.to_be_bytes()),
        ),
        qcow2(
            "version 4",
            changed(honest, h::VERSION, &4_u32.to_be_bytes()),
        ),
        qcow2("a backing file", backed_by(honest, "/etc/passwd")),
        qcow2(
            "a backing file over the network",
            backed_by(honest, "nbd://127.0.0.1/secret"),
        ),
        qcow2(
            "a backing file as JSON",
            backed_by(honest, r#"json:{"driver":"file","filename":"/etc/passwd"}"#),
        ),
        qcow2(
            "a backing file name that is longer than the image",
            changed(honest, h::BACKING_OFFSET, &[0x0f; 12]),
        ),
        qcow2("a data file", external),
        qcow2(
            "encrypted with AES",
            changed(honest, h::ENCRYPTION, &1_u32.to_be_bytes()),
        ),
        qcow2(
            "encrypted with LUKS",
            changed(honest, h::ENCRYPTION, &2_u32.to_be_bytes()),
        ),
        qcow2(
            "an encryption nobody knows",
            changed(honest, h::ENCRYPTION, &9_u32.to_be_bytes()),
        ),
        qcow2("marked corrupt", incompatible(1)),
        qcow2("a feature nobody knows", incompatible(5)),
        qcow2("the last feature bit", incompatible(63)),
        qcow2(
            "clusters of one byte",
            changed(honest, h::CLUSTER_BITS, &0_u32.to_be_bytes()),
        ),
        qcow2(
            "clusters of 4 GiB",
            changed(honest, h::CLUSTER_BITS, &32_u32.to_be_bytes()),
        ),
        qcow2(
            "an L1 table without end",
            changed(honest, h::L1_ENTRIES, &[0xff; 4]),
        ),
        qcow2(
            "an L1 table that is too short",
            changed(honest, h::L1_ENTRIES, &0_u32.to_be_bytes()),
        ),
        qcow2(
            "an L1 table outside of the file",
            changed(honest, h::L1_OFFSET, &(1_u64 << 40).to_be_bytes()),
        ),
        qcow2(
            "an L1 table between clusters",
            changed(honest, h::L1_OFFSET, &(l1 as u64 + 8).to_be_bytes()),
        ),
        qcow2(
            "an L1 table on the header",
            changed(honest, h::L1_OFFSET, &0_u64.to_be_bytes()),
        ),
        qcow2(
            "an L2 table outside of the file",
            changed(honest, l1, &(1_u64 << 50).to_be_bytes()),
        ),
        qcow2(
            "an L2 table on the L1 table",
            changed(honest, l1, &(1_u64 << 63 | l1 as u64).to_be_bytes()),
        ),
        qcow2(
            "reserved bits in the L1 table",
            changed(honest, l1 + 7, &[1]),
        ),
        qcow2(
            "data outside of the file",
            changed(honest, l2, &(1_u64 << 63 | 1 << 45).to_be_bytes()),
        ),
        qcow2("data between clusters", changed(honest, l2 + 6, &[0x02])),
        qcow2(
            "compressed data outside of the file",
            changed(honest, l2, &[0x7f; 8]),
        ),
        qcow2(
            "a header longer than the file",
            changed(honest, h::LEN, &[0x7f, 0, 0, 0]),
        ),
        qcow2(
            "a header shorter than any",
            changed(honest, h::LEN, &8_u32.to_be_bytes()),
        ),
        qcow2(
            "a refcount of 2^255 bits",
            changed(honest, h::REFCOUNT_ORDER, &255_u32.to_be_bytes()),
        ),
        qcow2(
            "a refcount table between clusters",
            changed(honest, h::REFCOUNT_OFFSET, &[1; 8]),
        ),
        Lie {
            name: "a qcow2 that is called raw",
            format: ImageFormat::Raw,
            bytes: honest.to_vec(),
        },
    ]
}

#[test]
fn images_that_lie_are_refused_and_leave_nothing() {
    let server = Server::start_with_plan(|plan| plan.pacing.in_flight_per_account = 100);
    let tenant = Person::tenant(&server);
    let folder = tempfile::tempdir().unwrap();
    let honest = honest(folder.path());
    let image = folder.path().join("image");
    let mut accepted = Vec::new();
    for lie in lies(&honest) {
        fs::write(&image, &lie.bytes).unwrap();
        let ended = tenant.end_of(&tenant.begin_import("lie", &image, lie.format));
        match ended.failure {
            None => accepted.push(lie.name),
            Some(failure) => {
                assert_eq!(
                    failure.code,
                    ProblemCode::ImageRefused,
                    "{}: {failure:?}",
                    lie.name
                );
                assert!(
                    !failure.detail.contains('/'),
                    "{}: {}",
                    lie.name,
                    failure.detail
                );
                println!("{}: {}", lie.name, failure.detail);
            }
        }
        delete_everything(&tenant);
    }
    assert_eq!(accepted, Vec::<&str>::new());
    no_leftovers(&server, &tenant);
    assert_eq!(server.pool().layer_files(), Vec::<String>::new());
}

/// A compressed image of 4 GiB whose one cluster is used for all of it.
fn bomb(folder: &Path) -> Vec<u8> {
    let (raw, image) = (folder.join("bomb.raw"), folder.join("bomb.qcow2"));
    fs::write(&raw, vec![0x5a; 64 << 10]).unwrap();
    run(Command::new("truncate").args(["-s", "4G"]).arg(&raw));
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]);
    run(convert
        .args(["-o", "cluster_size=64k"])
        .args([&raw, &image]));
    let mut bytes = fs::read(image).unwrap();
    let cluster = 64 << 10;
    let l1 = number(&bytes, header::L1_OFFSET);
    let l2 = number(&bytes, l1) & 0x00ff_ffff_ffff_fe00;
    let entry = bytes[l2..l2 + 8].to_vec();
    bytes.resize(bytes.len().next_multiple_of(cluster), 0);
    for table in 0..8 {
        let place = bytes.len() as u64;
        bytes.extend(entry.repeat(cluster / 8));
        put(&mut bytes, l1 + table * 8, &(place | 1 << 63).to_be_bytes());
    }
    bytes
}

/// What an image is that must be refused, and words of the reason.
type Hostile = (&'static str, ImageFormat, Vec<u8>, &'static str);

/// A sound image of less than 2 MiB, of a disk of 100 TiB.
fn huge(folder: &Path) -> Vec<u8> {
    let image = folder.join("huge.qcow2");
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2"]);
    run(create.arg(&image).arg("100T"));
    fs::read(image).unwrap()
}

fn hostile_images(folder: &Path, decoy: &Path) -> Vec<Hostile> {
    use header as h;
    let (honest, decoy) = (&honest(folder)[..], decoy.to_str().unwrap());
    let json = format!(r#"json:{{"driver":"file","filename":"{decoy}"}}"#);
    let l1 = number(honest, h::L1_OFFSET);
    let l2 = number(honest, l1) & 0x00ff_ffff_ffff_fe00;
    let mut external = with_extension(honest, 0x4441_5441, decoy.as_bytes());
    put(&mut external, h::INCOMPATIBLE, &4_u64.to_be_bytes());
    let pebibyte = (1_u64 << 50).to_be_bytes();
    let on_table = (1_u64 << 63 | l1 as u64).to_be_bytes();
    let qcow2 = |name, bytes, reason| (name, ImageFormat::Qcow2, bytes, reason);
    vec![
        qcow2(
            "a backing file",
            backed_by(honest, decoy),
            "names a backing file",
        ),
        qcow2(
            "one as JSON",
            backed_by(honest, &json),
            "names a backing file",
        ),
        qcow2("a data file", external, "keeps its data in another file"),
        qcow2(
            "a disk that the tables cannot hold",
            changed(honest, h::VIRTUAL_SIZE, &pebibyte),
            "its header is wrong",
        ),
        qcow2(
            "an L2 table on the L1 table",
            changed(honest, l1, &on_table),
            "overlaps",
        ),
        qcow2(
            "data on a table",
            changed(honest, l2, &on_table),
            "overlaps",
        ),
        qcow2(
            "data that stands twice",
            changed(honest, l2 + 8, &honest[l2..l2 + 8]),
            "overlaps",
        ),
        qcow2(
            "cut in its data",
            honest[..honest.len() - MIB].to_vec(),
            "outside the file",
        ),
        qcow2("cut in its header", honest[..50].to_vec(), "cut off"),
        qcow2(
            "another magic number",
            changed(honest, 0, b"QFI\xfa"),
            "no qcow2 image",
        ),
        qcow2("a compressed bomb", bomb(folder), "which is more than"),
        qcow2("a disk of 100 TiB", huge(folder), "allowed are"),
        (
            "a qcow2 that is called raw",
            ImageFormat::Raw,
            backed_by(honest, decoy),
            "declared raw and is a qcow2 image",
        ),
    ]
}

/// Tells what is done with the files in a folder.
struct Watch(std::os::fd::OwnedFd);

impl Watch {
    fn of(folder: &Path) -> Self {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, folder, inotify::WatchFlags::ALL_EVENTS).unwrap();
        Self(watch)
    }

    /// Whether anything was opened, read, written or made there since it was asked last.
    fn saw_something(&self) -> bool {
        let mut room = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut room);
        let saw = events.next().is_ok();
        while events.next().is_ok() {}
        saw
    }
}

#[test]
fn hostile_images_make_no_image_and_touch_nothing_but_the_upload() {
    let server = Server::start_with_plan(|plan| plan.pacing.in_flight_per_account = 100);
    let tenant = Person::tenant(&server);
    let folder = tempfile::tempdir().unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let decoy = secrets.path().join("secret");
    fs::write(&decoy, vec![7; 8 * MIB]).unwrap();
    let hostile = hostile_images(folder.path(), &decoy);
    let watch = Watch::of(secrets.path());
    let file = folder.path().join("image");
    for (name, format, bytes, reason) in hostile {
        fs::write(&file, bytes).unwrap();
        let upload = tenant.get(async |c| c.upload_file(&file, |_, _| {}).await);
        let request = ImageCreate {
            name: Some("lie".into()),
            upload: Some(UploadSource {
                id: upload.id,
                format,
            }),
            ..ImageCreate::default()
        };
        let made = tenant.begin(async |c| c.image_create(&request, &Change::default()).await);
        let failure = tenant.end_of(&made).failure.expect(name);
        assert_eq!(
            failure.code,
            ProblemCode::ImageRefused,
            "{name}: {failure:?}"
        );
        let told = failure.detail;
        assert!(
            told.contains(reason) && !told.contains('/'),
            "{name}: {told}"
        );
        println!("{name}: {told}");
        // It stays listed with the reason, until its owner takes note.
        let image = tenant.get(async |c| c.image_show("lie").await);
        assert_eq!(
            (image.state, image.failure),
            (ItemState::Failed, Some(told))
        );
        tenant.complete(async |c| c.image_delete("lie", Some("lie"), &Change::default()).await);
    }
    assert!(!watch.saw_something(), "the decoy was touched");
    fs::read(&decoy).unwrap();
    assert!(watch.saw_something(), "the watch works");
    no_leftovers(&server, &tenant);
    assert_eq!(server.pool().layer_files(), Vec::<String>::new());
}

/// Failed volumes stay listed until somebody takes note of them.
fn delete_everything(tenant: &Person) {
    let volumes = tenant.get(async |c| c.volume_list(&ListQuery::default()).await);
    for volume in volumes.items {
        let (id, name) = (volume.id.to_string(), volume.name.to_string());
        tenant.complete(async |c| c.volume_delete(&id, Some(&name), &Change::default()).await);
    }
}

#[test]
fn what_does_no_harm_is_read_as_what_it_was_declared_to_be() {
    let server = Server::start();
    let tenant = Person::tenant(&server);
    let folder = tempfile::tempdir().unwrap();
    // Any bytes are a raw disk, whatever they look like; a last part is filled up with zeros.
    let image = folder.path().join("text.raw");
    fs::write(&image, b"backing file: /etc/passwd").unwrap();
    let volume = tenant.import("text", &image, ImageFormat::Raw);
    let copy = folder.path().join("copy.raw");
    server.pool().copy_volume(volume, &copy);
    let mut expected = b"backing file: /etc/passwd".to_vec();
    expected.resize(512, 0);
    assert_eq!(fs::read(&copy).unwrap(), expected);
    let id = volume.to_string();
    let shown = tenant.get(async |c| c.volume_show(&id).await);
    assert_eq!(
        (shown.size_bytes, shown.state),
        (ByteCount::new(512), VolumeState::Available)
    );
}

#[test]
fn an_empty_image_is_refused_before_anything_is_recorded() {
    let server = Server::start();
    let tenant = Person::tenant(&server);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("empty.raw");
    fs::write(&image, b"").unwrap();
    let problem = tenant.refused(async |c| c.upload_file(&image, |_, _| {}).await);
    assert_eq!(problem.code, ProblemCode::InvalidRequest);
    no_leftovers(&server, &tenant);
}

/// How the server ends when it is started with these settings: the exit code and what it said.
fn start_with(folder: &Path, settings: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let config = folder.join("server.toml");
    fs::write(&config, settings).unwrap();
    let output = Command::new(stillpoint_binary())
        .args(["server", "start", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.join("data"))
        .arg("--config")
        .arg(&config)
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn settings_with_a_typo_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let missing = PathBuf::from("/nowhere/plan.toml").display().to_string();
    let cases: [(&str, &[&str], &str); 6] = [
        ("lisen = \"127.0.0.1:0\"", &[], "listen"),
        ("listen = 8420", &[], "line 1"),
        ("listen = \"localhost\"", &[], "line 1"),
        ("plan = \"/nowhere/plan.toml\"", &[], "/nowhere/plan.toml"),
        ("", &["--plan", &missing], "/nowhere/plan.toml"),
        ("[server", &[], "server.toml"),
    ];
    for (settings, arguments, named) in cases {
        let (exit, said) = start_with(folder.path(), settings, arguments);
        assert_eq!(exit, Some(2), "{settings} {arguments:?}: {said}");
        assert!(said.starts_with("error["), "{said}");
        assert!(said.contains(named), "{named} is not in {said}");
        assert!(!folder.path().join("data").exists(), "nothing is made");
    }
    let (_, said) = start_with(folder.path(), "lisen = \"127.0.0.1:0\"", &[]);
    assert!(said.contains("hint"), "{said}");
}
