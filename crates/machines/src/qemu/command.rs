//! The command line of a machine.

use serde_json::{Value, json};
use stillpoint_model::ByteCount;
use stillpoint_model::id::VolumeId;

use super::console::RING;
use super::disks::name_of;
use super::folder::Folder;
use super::graph::in_order;
use super::{Accelerator, QemuConfig};
use crate::{DiskSpec, MAX_DISKS, MachineLayout, MachineSpec};

/// The device that a volume is.
pub(super) fn device_of(volume: VolumeId) -> String {
    format!("d{volume}")
}

/// The volume that a device is.
pub(super) fn volume_of(device: &str) -> Option<VolumeId> {
    device.strip_prefix('d')?.parse().ok()
}

/// The root port of this number.
pub(super) fn port(number: usize) -> String {
    format!("rp{number}")
}

/// What `device_add` and `-device` take for a disk.
pub(super) fn disk_device(disk: &DiskSpec, node: &str, port: &str) -> Value {
    json!({
        "driver": "virtio-blk-pci",
        "id": device_of(disk.volume),
        "bus": port,
        "drive": node,
        "serial": disk.serial(),
        "bootindex": disk.place,
        "discard": true,
        // A full pool is no fault of the disk: the machine waits for room. What else goes wrong is
        // told to the guest, as by any disk.
        "werror": "enospc",
        "rerror": "report",
    })
}

/// A network card's address that belongs to this machine alone.
fn mac(spec: &MachineSpec) -> String {
    let bytes = *spec.id.as_uuid().as_bytes();
    let [.., a, b, c] = bytes;
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// The arguments that run a machine in a session of its own. One that is to go on from memory of this
/// layout waits for it, and is in all what its guest can see what it was.
pub(super) fn arguments(
    spec: &MachineSpec,
    folder: &Folder,
    config: &QemuConfig,
    accelerator: Accelerator,
    resumed: Option<&MachineLayout>,
) -> Vec<String> {
    let path = |name: &str| folder.file(name).to_string_lossy().into_owned();
    let mut args = Vec::new();
    let mut add = |name: &str, value: String| args.extend([format!("-{name}"), value]);
    add("name", format!("guest={},debug-threads=on", spec.hostname));
    let machine_type = resumed.map_or("q35", |layout| layout.machine_type.as_str());
    add("machine", format!("{machine_type},usb=off,vmport=off"));
    if resumed.is_some() {
        add("incoming", "defer".to_owned());
    }
    add("accel", accelerator.argument().to_owned());
    add("cpu", accelerator.processor().to_owned());
    add("smp", spec.vcpus.to_string());
    add("m", format!("size={}", mebibytes(spec.memory)));
    add("uuid", spec.id.to_string());
    // Where cloud-init looks for who its machine is.
    let identity = format!("ds=nocloud;i={};h={}", spec.id, spec.hostname);
    add(
        "smbios",
        format!("type=1,manufacturer=Stillpoint,serial={identity}"),
    );
    add("pidfile", path("pid"));
    add("qmp", format!("unix:{},server=on,wait=off", path("qmp")));
    add("chardev", format!("ringbuf,id=console,size={RING}"));
    add("serial", "chardev:console".to_owned());
    let agent = path("agent");
    add(
        "chardev",
        format!("socket,id=agent,path={agent},server=on,wait=off"),
    );
    add("device", "virtio-serial-pci".to_owned());
    add(
        "device",
        "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".to_owned(),
    );
    add("device", "virtio-rng-pci".to_owned());
    add("netdev", network(spec, config.outbound));
    add(
        "device",
        format!("virtio-net-pci,netdev=net,romfile=,mac={}", mac(spec)),
    );
    for number in 0..=MAX_DISKS {
        let (id, slot) = (port(number), number + 1);
        add(
            "device",
            format!("pcie-root-port,id={id},chassis={slot},slot={slot}"),
        );
    }
    for (number, disk) in spec.disks.iter().enumerate() {
        for node in in_order(&disk.graph, config.disk_io) {
            add("blockdev", node.to_string());
        }
        let node = name_of(&disk.graph);
        add(
            "device",
            disk_device(disk, &node, &port_of(number, disk, resumed)).to_string(),
        );
    }
    // QEMU 7.2 sets the filter before it forks and takes a session of its own, so what forbids
    // either would end it.
    let sandbox = "on,obsolete=deny,resourcecontrol=deny";
    add("sandbox", sandbox.to_owned());
    add("display", "none".to_owned());
    args.extend(
        [
            "-nodefaults",
            "-no-user-config",
            "-no-shutdown",
            "-daemonize",
        ]
        .map(String::from),
    );
    args
}

/// Where a disk is plugged: where it was, or one after the other.
fn port_of(number: usize, disk: &DiskSpec, resumed: Option<&MachineLayout>) -> String {
    let was = resumed.and_then(|layout| layout.ports.get(&disk.place));
    was.cloned().unwrap_or_else(|| port(number))
}

fn mebibytes(memory: ByteCount) -> String {
    format!("{}M", memory.get() >> 20)
}

fn network(spec: &MachineSpec, outbound: bool) -> String {
    let restrict = if outbound { "off" } else { "on" };
    let mut text = format!("user,id=net,restrict={restrict}");
    for forward in &spec.forwards {
        let (host, guest) = (forward.host, forward.guest);
        text.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
    }
    text
}
