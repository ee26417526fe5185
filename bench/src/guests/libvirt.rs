//! The contender that one would use instead: libvirt, in a mount namespace of its own, so that
//! nothing is left on this machine and no other libvirt is met.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stillpoint_machines::qemu::Accelerator;
use stillpoint_tests::process::{Dialogue, bound_command, run};
use stillpoint_tests::wait::{PATIENCE, until};

use super::image::Images;
use super::mailbox::Mailbox;
use super::{Guest, MEMORY, Mode};

const DOMAIN: &str = "bench";
/// The disks that are captured.
const DISKS: [&str; 2] = ["vdb", "vdc"];

const QEMU_CONF: &str = r#"user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"#;

/// Runs as root; what it would keep on this machine is in memory and goes with it.
const START: &str = r#"set -e
PATH=$PATH:/usr/sbin:/sbin
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /run/libvirt; do
    mkdir -p $folder
    mount -t tmpfs none $folder
done
mkdir -p /run/libvirt/common
cp "$1/qemu.conf" /etc/libvirt/
# It wants to know these, although it runs guests as root.
for file in passwd group; do
    cp /etc/$file "$1/$file"
    mount --bind "$1/$file" /etc/$file
done
echo 'libvirt-qemu:x:64055:64055::/:/bin/false' >>/etc/passwd
echo 'libvirt-qemu:x:64055:' >>/etc/group
echo 'kvm:x:64056:' >>/etc/group
exec libvirtd --config "$1/libvirtd.conf" --pid-file "$1/libvirtd.pid"
"#;

/// A domain of libvirt.
pub struct Libvirt {
    uri: String,
    folder: PathBuf,
    mailbox: Mailbox,
    /// How many overlays each disk was given.
    made: u32,
    _daemon: Dialogue,
}

impl Libvirt {
    /// Starts it. `sockets` is a folder with a short path.
    pub fn start(
        images: &Images,
        folder: &Path,
        sockets: &Path,
        program: &Path,
        accelerator: Accelerator,
    ) -> Self {
        let mailbox = Mailbox::create(&folder.join("mailbox"));
        fs::copy(&images.root, folder.join("vda")).expect("a disk");
        for disk in DISKS {
            let (from, to) = (&images.data, folder.join(disk));
            run(Command::new("qemu-img")
                .args(["convert", "-O", "qcow2"])
                .arg(from)
                .arg(to));
        }
        fs::write(sockets.join("qemu.conf"), QEMU_CONF).expect("its configuration");
        let conf = format!(
            "unix_sock_dir = \"{}\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n\
             log_outputs = \"3:file:{}/libvirtd.log\"\n",
            sockets.display(),
            sockets.display()
        );
        fs::write(sockets.join("libvirtd.conf"), conf).expect("its configuration");
        let mut command = bound_command("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            START,
            "sh",
        ]);
        command.arg(sockets).stderr(Stdio::null());
        let daemon = Dialogue::start("libvirtd", command, b'\n');
        let socket = sockets.join("libvirt-sock");
        let theirs = Self {
            uri: format!("qemu+unix:///system?socket={}", socket.display()),
            folder: folder.to_owned(),
            mailbox,
            made: 0,
            _daemon: daemon,
        };
        until(PATIENCE, "libvirtd", || theirs.try_virsh(&["list"]));
        let xml = folder.join("domain.xml");
        fs::write(&xml, theirs.domain(program, accelerator)).expect("the domain");
        theirs.virsh(&["create", &xml.to_string_lossy()]);
        theirs
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("virsh");
        command.args(["--quiet", "--connect", &self.uri]).args(args);
        command
    }

    fn virsh(&self, args: &[&str]) {
        run(&mut self.command(args));
    }

    fn try_virsh(&self, args: &[&str]) -> Result<(), String> {
        let output = self.command(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn domain(&self, program: &Path, accelerator: Accelerator) -> String {
        let disk = |name: &str, format: &str, file: &str| {
            let file = self.folder.join(file);
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='{format}' \
                 cache='none' io='io_uring' discard='unmap'/><source file='{}'/>\
                 <target dev='{name}' bus='virtio'/></disk>",
                file.display()
            )
        };
        let disks = [
            disk("vda", "raw", "vda"),
            disk("vdb", "qcow2", "vdb"),
            disk("vdc", "qcow2", "vdc"),
            disk("vdd", "raw", "mailbox"),
        ];
        let (kind, cpu) = match accelerator {
            Accelerator::Kvm => ("kvm", "host-passthrough"),
            Accelerator::Tcg => ("qemu", "maximum"),
        };
        format!(
            "<domain type='{kind}'><name>{DOMAIN}</name><memory unit='b'>{memory}</memory>\
             <vcpu>1</vcpu><sysinfo type='smbios'><system>\
             <entry name='serial'>ds=nocloud;i=1;h=theirs</entry></system></sysinfo>\
             <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/>\
             <smbios mode='sysinfo'/></os><features><acpi/></features><cpu mode='{cpu}'/>\
             <devices><emulator>{program}</emulator>{disks}\
             <controller type='usb' model='none'/>\
             <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
             <serial type='file'><source path='{console}'/></serial>\
             <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
             <memballoon model='none'/></devices></domain>",
            memory = MEMORY.get(),
            program = program.display(),
            disks = disks.concat(),
            console = self.folder.join("console").display(),
        )
    }

    /// Whether the guest's agent answers.
    pub fn is_ready(&self) -> bool {
        let ping = r#"{"execute": "guest-ping"}"#;
        self.try_virsh(&["qemu-agent-command", DOMAIN, ping])
            .is_ok()
    }

    fn overlay(&self, disk: &str, number: u32) -> PathBuf {
        self.folder.join(format!("{disk}.{number}"))
    }
}

impl Guest for Libvirt {
    fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    fn snapshot(&mut self, mode: Mode) {
        self.made += 1;
        let specs = DISKS.map(|disk| {
            let file = self.overlay(disk, self.made);
            format!("{disk},snapshot=external,file={}", file.display())
        });
        let mut args = vec![
            "snapshot-create-as",
            DOMAIN,
            "--disk-only",
            "--atomic",
            "--no-metadata",
            "--diskspec",
            "vda,snapshot=no",
            "--diskspec",
            "vdd,snapshot=no",
            "--diskspec",
            &specs[0],
            "--diskspec",
            &specs[1],
        ];
        if mode == Mode::Frozen {
            args.push("--quiesce");
        }
        self.virsh(&args);
    }

    fn undo(&mut self) {
        for disk in DISKS {
            self.virsh(&[
                "blockcommit",
                DOMAIN,
                disk,
                "--active",
                "--shallow",
                "--wait",
                "--pivot",
            ]);
            fs::remove_file(self.overlay(disk, self.made)).expect("the overlay");
        }
    }

    fn deepen(&mut self) {
        self.snapshot(Mode::Crash);
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        let _it_may_have_ended = self.try_virsh(&["destroy", DOMAIN]);
    }
}
