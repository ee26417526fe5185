//! `stillpoint server`, as whoever operates it meets it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::run::{Ended, command, run};

/// A server that runs. Dropping it kills it.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts it, and waits until it says where it listens.
    fn start(home: &Path, more: &[&str]) -> Self {
        let data = home.join("data");
        let mut child = command(home)
            .args(["server", "start", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        stdout.read_line(&mut line).expect("a line");
        let url = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_default()
            .to_owned();
        if url.is_empty() {
            let ended: Ended = child.wait_with_output().expect("ended").into();
            panic!("the server did not start: {ended:?}");
        }
        Self { child, url }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[test]
fn the_first_start_makes_everything_and_a_second_finds_it() {
    let home = tempfile::tempdir().expect("a home");
    let data = home.path().join("data");
    let mut server = Server::start(home.path(), &[]);
    assert!(
        server.url.starts_with("http://127.0.0.1:"),
        "{}",
        server.url
    );
    let (key, logins) = (data.join("keys/root.key"), data.join("credentials"));
    assert_eq!(
        (mode(&data), mode(&key), mode(&logins)),
        (0o700, 0o600, 0o600)
    );
    let first = (
        fs::read(&key).expect("a key"),
        fs::read(&logins).expect("logins"),
    );
    server.signal(Signal::TERM);
    assert!(server.child.wait().expect("ended").success());
    // Folded in: what is left is one file that can be copied.
    assert!(!data.join("stillpoint.db-wal").exists());

    let _again = Server::start(home.path(), &[]);
    assert_eq!(
        (
            fs::read(&key).expect("a key"),
            fs::read(&logins).expect("logins")
        ),
        first
    );
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let home = tempfile::tempdir().expect("a home");
    let server = Server::start(home.path(), &[]);
    let data = home.path().join("data");
    let second: Ended = command(home.path())
        .args(["server", "start", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .output()
        .expect("ended")
        .into();
    assert_eq!((second.code, second.stdout.as_str()), (1, ""));
    assert!(
        second.stderr.starts_with("error[data_in_use]: "),
        "{}",
        second.stderr
    );
    assert!(
        second
            .stderr
            .contains(&format!("process {}", server.child.id()))
    );
    assert!(second.stderr.contains("\nhint: "));
}

#[test]
fn a_qemu_that_is_asked_for_and_absent_stops_the_start_before_anything_is_made() {
    let home = tempfile::tempdir().expect("a home");
    let data = home.path().join("data");
    let ended: Ended = command(home.path())
        .args(["server", "start", "--qemu", "qemu-of-nobody", "--data"])
        .arg(&data)
        .output()
        .expect("ended")
        .into();
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""));
    assert!(
        ended.stderr.starts_with("error[config]: "),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("--qemu none"), "{}", ended.stderr);
    assert!(!data.exists());
}

#[test]
fn the_first_login_works_and_the_demo_volume_is_there() {
    let home = tempfile::tempdir().expect("a home");
    let server = Server::start(home.path(), &["--demo"]);
    let logins = fs::read_to_string(home.path().join("data/credentials")).expect("logins");
    let logins: toml::Table = toml::from_str(&logins).expect("TOML");
    let tenant = |field: &str| logins["tenant"][field].as_str().expect("text").to_owned();
    let mut login = command(home.path())
        .args([
            "auth",
            "login",
            "--server",
            &server.url,
            "--password-stdin",
            "--login",
        ])
        .arg(tenant("login"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    std::io::Write::write_all(
        &mut login.stdin.take().expect("stdin"),
        tenant("password").as_bytes(),
    )
    .expect("written");
    let login: Ended = login.wait_with_output().expect("ended").into();
    assert_eq!(login.code, 0, "{}", login.stderr);

    let say = |args: &[&str]| -> Ended {
        command(home.path())
            .args(args)
            .output()
            .expect("ended")
            .into()
    };
    assert_eq!(say(&["volume", "list", "-o", "name"]).stdout, "demo\n");
    let created = say(&["volume", "create", "mine", "--size", "1GiB", "-o", "name"]);
    assert_eq!(
        (created.code, created.stdout.as_str()),
        (0, "mine\n"),
        "{}",
        created.stderr
    );
    let taken = say(&[
        "snapshot", "create", "mine", "--name", "first", "-o", "name",
    ]);
    assert_eq!(
        (taken.code, taken.stdout.as_str()),
        (0, "first\n"),
        "{}",
        taken.stderr
    );
    let resting = say(&["snapshot", "create", "mine"]);
    assert_eq!(resting.code, 6, "{}", resting.stderr);
    assert!(
        resting.stderr.starts_with("error[cooldown]: "),
        "{}",
        resting.stderr
    );
}

#[test]
fn a_mistake_in_the_settings_is_named_with_its_line_and_what_was_meant() {
    let home = tempfile::tempdir().expect("a home");
    let file = home.path().join("stillpoint.toml");
    let start = |text: &str| -> String {
        fs::write(&file, text).expect("settings");
        let ended: Ended = command(home.path())
            .args(["server", "start", "--config"])
            .arg(&file)
            .output()
            .expect("ended")
            .into();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (2, ""),
            "{}",
            ended.stderr
        );
        ended
            .stderr
            .replace(home.path().to_str().expect("UTF-8"), "HOME")
    };
    let said = [
        "data = \"data\"\nlisten_on = \"127.0.0.1:0\"\n",
        "verbosity = 3\n",
        "listen = \"localhost\"\n",
        "data = 7\n",
        "data = \"x\n",
        "plan = \"missing.toml\"\n",
        "log = \"loud=9\"\n",
    ]
    .map(|text| format!("{text}{}", start(text)));
    insta::assert_snapshot!(said.join("\n"));
    assert!(!home.path().join("data").exists());
}

#[test]
fn an_address_that_is_taken_is_said_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let home = tempfile::tempdir().expect("a home");
    let data = home.path().join("data").to_str().expect("UTF-8").to_owned();
    let ended = run(&["server", "start", "--data", &data, "--listen", &address]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("error[listen]: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("--listen"), "{}", ended.stderr);
}
