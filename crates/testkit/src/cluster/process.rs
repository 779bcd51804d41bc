//! A process that a test can kill and restart.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The time limit until a process is ready, and until it has shut down. The objective of the fleet is 5 s; a debug build on a busy machine
/// takes longer.
const READY: Duration = Duration::from_mins(3);

/// The time limit for one answer: a process that takes connections and answers none is not ready either.
const ANSWER: Duration = Duration::from_secs(30);

const SIGKILL: i32 = 9;

/// A service as a process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    ports: Vec<u16>,
    http: reqwest::Client,
    child: Option<Child>,
}

impl Process {
    /// Starts a process and waits until it is ready on all of its ports.
    ///
    /// # Panics
    /// If the binary is not built, the process is not ready within three minutes, or another process responds on a port.
    pub async fn start(
        name: &str,
        binary: &Path,
        arguments: Vec<String>,
        environment: BTreeMap<String, String>,
        folder: &Path,
        ports: Vec<u16>,
    ) -> Self {
        assert!(
            binary.exists(),
            "{} is not built: cargo build --workspace",
            binary.display()
        );
        let log = folder.join(format!("{name}.log"));
        // One for all requests: each client reads the certificate authorities of the machine. Each request has a connection of its own, so that
        // none is kept to a process that ends.
        let http = sosohappy_common::tls::client_builder()
            .pool_max_idle_per_host(0)
            .timeout(ANSWER);
        let mut process = Self {
            name: name.to_owned(),
            binary: binary.to_owned(),
            arguments,
            environment: crate::limits::off_by_environment().chain(environment).collect(),
            log,
            ports,
            http: http.build().expect("a client can be made"),
            child: None,
        };
        process.restart().await;
        process
    }

    /// Starts the process again and waits until it is ready. Returns the time it took.
    pub(super) async fn restart(&mut self) -> Duration {
        let began = Instant::now();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log can be written");
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.name));
        self.child = Some(child);
        for port in self.ports.clone() {
            self.ready(port, began).await;
        }
        began.elapsed()
    }

    /// Waits until the process is ready on that port.
    async fn ready(&mut self, port: u16, began: Instant) {
        let url = format!("http://127.0.0.1:{port}/actuator/health/readiness");
        loop {
            let is_ready = self
                .http
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success());
            if is_ready {
                self.assert_own_port(port).await;
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(
                ended.is_none() && began.elapsed() < READY,
                "{} is not ready (ended: {ended:?}):\n{}",
                self.name,
                self.log_text()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Panics if another process responds on the port: the test would pass or fail for an unrelated reason.
    async fn assert_own_port(&self, port: u16) {
        let url = format!("http://127.0.0.1:{port}/actuator/info");
        let answer = self.http.get(&url).send().await.expect("a ready process responds");
        let info: serde_json::Value = answer.json().await.expect("the answer is JSON");
        let pid = self.child.as_ref().map(Child::id);
        assert_eq!(
            info["process"]["pid"].as_u64(),
            pid.map(u64::from),
            "port {port} of {} is answered by another process: {info}",
            self.name
        );
    }

    /// Kills the process with SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Returns whether the process has ended by SIGKILL and was not started again.
    ///
    /// # Panics
    /// If it has ended in another way.
    pub(super) fn has_crashed(&mut self) -> bool {
        let child = self.child.as_mut();
        let Some(status) = child.and_then(|child| child.try_wait().expect("our own child can be waited for")) else {
            return false;
        };
        assert_eq!(
            status.signal(),
            Some(SIGKILL),
            "{} exited with {status}:\n{}",
            self.name,
            self.log_text()
        );
        true
    }

    /// Terminates the process with SIGTERM, as Kubernetes does. Returns the time until it has exited.
    pub(super) async fn terminate(&mut self) -> Duration {
        let began = Instant::now();
        let mut child = self.child.take().expect("the process runs");
        let sent = Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .expect("`kill` is available");
        assert!(sent.success(), "{} cannot be terminated", self.name);
        loop {
            if let Some(status) = child.try_wait().expect("our own child can be waited for") {
                assert!(
                    status.success(),
                    "{} exited with {status}:\n{}",
                    self.name,
                    self.log_text()
                );
                return began.elapsed();
            }
            if began.elapsed() > READY {
                self.child = Some(child);
                panic!("{} does not shut down:\n{}", self.name, self.log_text());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the log of all runs of the process.
    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the resident memory of the process, in bytes.
    pub(super) fn resident(&self) -> u64 {
        resident_of(self.child.as_ref().map_or(0, Child::id))
    }
}

/// Returns the resident memory of a process, in bytes.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn resident_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.expect("a running process has resident memory") * 1024
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<_> = text.lines().rev().take(20).collect();
            eprintln!("--- the last lines of {}:", self.name);
            for line in tail.into_iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}
