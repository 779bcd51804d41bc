//! `strace`, which counts the waits for the disk of a process while it is attached.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// The system calls that wait for the disk.
const CALLS: [&str; 2] = ["fsync", "fdatasync"];
/// How long it may take to attach to all threads.
const ATTACHED_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A trace that has begun. Killed when dropped, which detaches it.
pub struct Trace {
    process: Child,
    summary: PathBuf,
}

impl Trace {
    /// Attaches to all threads of a process, and to those that it starts later. `folder`: where the summary is written.
    pub async fn attach(pid: u32, folder: &Path) -> anyhow::Result<Self> {
        let summary = folder.join("fsyncs");
        let mut process = Command::new("strace")
            .args(["-f", "-q", "-c", "-e", &format!("trace={}", CALLS.join(",")), "-o"])
            .arg(&summary)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("`strace` cannot be started")?;
        let began = Instant::now();
        while !is_traced(pid)? {
            if process.try_wait()?.is_some() {
                let output = process.wait_with_output().await?;
                bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
            }
            ensure!(began.elapsed() < ATTACHED_WITHIN, "`strace` does not attach");
            sleep(POLL).await;
        }
        Ok(Self { process, summary })
    }

    /// Detaches, and returns the number of calls.
    pub async fn end(mut self) -> anyhow::Result<u32> {
        let pid = self.process.id().context("`strace` has ended by itself")?;
        // It writes the summary when it is interrupted.
        let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().await?;
        ensure!(sent.success(), "`strace` cannot be interrupted");
        self.process.wait().await?;
        calls_in(&std::fs::read_to_string(&self.summary)?)
    }
}

/// Returns whether all threads of a process are traced.
fn is_traced(pid: u32) -> anyhow::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that cannot be read has ended meanwhile.
        let status = std::fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_some_and(|tracer| tracer.trim() == "0") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds up the calls in the summary of `strace -c`, which is empty without any.
fn calls_in(summary: &str) -> anyhow::Result<u32> {
    let mut calls = 0;
    for line in summary.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // % time, seconds, usecs/call, calls, errors if there are any, syscall
        if let [_, _, _, count, .., name] = columns[..]
            && CALLS.contains(&name)
        {
            calls += count.parse::<u32>()?;
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_added_up() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            50.21    0.002237          37        59           fdatasync\n \
            49.79    0.002218          37        41         1 fsync\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.004455          37       100         1 total\n";
        assert_eq!(calls_in(summary).expect("a summary"), 100);
        assert_eq!(calls_in("").expect("an empty summary"), 0);
    }
}
