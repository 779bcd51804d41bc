//! What a run ran on: figures of two machines, or of two versions, are not compared by accident.

use std::fmt;
use std::process::Command;

use serde_json::{Value, json};

/// The machine and the code of a run.
#[derive(Debug)]
pub struct Card {
    processor: String,
    processors: usize,
    memory_mib: u64,
    kernel: String,
    rustc: String,
    commit: String,
    /// Of the last minute before the run, as `/proc/loadavg` has it.
    load: String,
}

const UNKNOWN: &str = "unknown";
const BUILD: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

impl Card {
    /// Reads `/proc`, and asks rustc and git. What cannot be found out is `unknown`.
    pub fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let first_word = |text: String| text.split_whitespace().next().unwrap_or(UNKNOWN).to_owned();
        Self {
            processor: processor(&file("/proc/cpuinfo")),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_mib(&file("/proc/meminfo")),
            kernel: first_word(file("/proc/sys/kernel/osrelease")),
            rustc: output("rustc", &["--version"]).unwrap_or_else(|| UNKNOWN.to_owned()),
            commit: commit(),
            load: first_word(file("/proc/loadavg")),
        }
    }

    /// Returns the same for the raw data.
    pub fn to_json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "memoryMib": self.memory_mib,
            "kernel": self.kernel,
            "rustc": self.rustc,
            "commit": self.commit,
            "build": BUILD,
            "load": self.load,
        })
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            processors,
            memory_mib,
            kernel,
            rustc,
            commit,
            load,
        } = self;
        write!(
            f,
            "{processor}, {processors} processors, {memory_mib} MiB of memory, Linux {kernel}, {rustc}, commit {commit}, {BUILD} build, load \
             average {load} before the run"
        )
    }
}

/// Returns the name of the first processor in the text of `/proc/cpuinfo`.
fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|name| name.trim_start_matches([':', ' ', '\t']).trim());
    name.filter(|name| !name.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

/// Returns the memory in MiB by the text of `/proc/meminfo`; 0 if it does not say.
fn memory_mib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() / 1024
}

/// Returns the commit of the folder in which the bench runs, and whether code differs from it.
fn commit() -> String {
    let Some(commit) = output("git", &["rev-parse", "--short", "HEAD"]) else {
        return UNKNOWN.to_owned();
    };
    let changed = output(
        "git",
        &["status", "--porcelain", "--", ":/crates", ":/services", ":/Cargo.lock"],
    );
    match changed {
        Some(changed) if changed.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}

/// Returns what a command prints; `None` if it cannot be run or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_from_proc() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon(R) CPU @ 2.80GHz\n\nprocessor\t: 1\nmodel name\t: another\n";
        assert_eq!(processor(cpuinfo), "Xeon(R) CPU @ 2.80GHz");
        assert_eq!(processor("processor\t: 0\nBogoMIPS\t: 50.00\n"), UNKNOWN);
        assert_eq!(
            memory_mib("MemTotal:        8028160 kB\nMemFree:          100 kB\n"),
            7840
        );
        assert_eq!(memory_mib(""), 0);
    }
}
