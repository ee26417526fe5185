//! What the figures were measured on.

use std::fs;
use std::process::Command;

use stillpoint_tests::cache_folder;
use stillpoint_tests::process::run;

/// Prints processor, memory, kernel, QEMU and the file system of the scratch folder.
pub fn describe() {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split_once(':'))
            .map_or_else(
                || "unknown".to_owned(),
                |(_, value)| value.trim().to_owned(),
            )
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
        "MemTotal",
    );
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "machine   {cores} x {}, {memory}",
        field(&cpu_info, "model name")
    );
    println!("kernel    {}", kernel.trim());
    println!(
        "qemu      {}",
        first_line(Command::new("qemu-img").arg("--version"))
    );
    println!(
        "scratch   {}",
        last_line(
            Command::new("findmnt")
                .args(["-no", "SOURCE,FSTYPE", "-T"])
                .arg(cache_folder())
        )
    );
}

fn first_line(command: &mut Command) -> String {
    let output = run(command).stdout;
    String::from_utf8_lossy(&output)
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn last_line(command: &mut Command) -> String {
    let output = run(command).stdout;
    String::from_utf8_lossy(&output)
        .lines()
        .last()
        .unwrap_or_default()
        .trim()
        .to_owned()
}
