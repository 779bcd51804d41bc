//! A process of this binary that serves a baseline.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use sosohappy_testkit::{ReservedPorts, resident_of};
use tokio::net::TcpStream;

/// Ticks a second in `/proc/PID/stat` (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// The process of a baseline. Killed when dropped.
pub struct Bare {
    child: Child,
    pub port: u16,
    _reserved: ReservedPorts,
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Errors are ignored: the process may have exited by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bare {
    /// Starts this binary with a command that takes a port, and waits until it listens.
    pub async fn start(command: &str) -> anyhow::Result<Self> {
        let mut reserved = ReservedPorts::default();
        let port = reserved.reserve();
        let child = Command::new(std::env::current_exe()?)
            .args([command, &port.to_string()])
            .spawn()?;
        let mut bare = Self {
            child,
            port,
            _reserved: reserved,
        };
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = bare.child.try_wait()? {
                anyhow::bail!("{command} ended before it listened: {status}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(bare)
    }

    /// Returns the resident memory of the process, in bytes.
    pub fn resident(&self) -> u64 {
        resident_of(self.child.id())
    }

    /// Returns the processor time of the process, in seconds.
    pub fn processor_seconds(&self) -> anyhow::Result<f64> {
        processor_seconds_of(self.child.id())
    }
}

/// Returns the processor time of the process that serves this URL of the fleet, in seconds.
pub async fn processor_seconds_at(url: &str) -> anyhow::Result<f64> {
    processor_seconds_of(pid_at(url).await?)
}

/// Returns the id of the process that serves this URL of the fleet.
pub async fn pid_at(url: &str) -> anyhow::Result<u32> {
    let answer = sosohappy_common::tls::client()
        .get(format!("{url}/actuator/info"))
        .send()
        .await?;
    let info: Value = answer.error_for_status()?.json().await?;
    let pid = info["process"]["pid"].as_u64().context("no process in the answer")?;
    Ok(pid.try_into()?)
}

/// Returns the processor time of a process, in seconds.
pub fn processor_seconds_of(pid: u32) -> anyhow::Result<f64> {
    processor_seconds(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// Reads the processor time, in user and in system mode, in the text of `/proc/PID/stat`.
fn processor_seconds(stat: &str) -> anyhow::Result<f64> {
    // The fields after the name, which may contain blanks.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || -> anyhow::Result<f64> { Ok(ticks.next().context("a field is missing")?.parse()?) };
    let (user, system) = (next()?, next()?);
    Ok((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_blanks() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 900 0 0 0 150 50 7 8 20 0 4 0 100 1000 200";
        let seconds = processor_seconds(stat).expect("the fields are there");
        assert_eq!(format!("{seconds:.2}"), "2.00");
        assert!(processor_seconds("42 (short) S 1").is_err());
    }
}
