use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to be ready. A promise of the fleet is 5 s; a debug build on a busy machine gets more.
const READY: Duration = Duration::from_mins(1);

/// A service as a process of its own, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    ports: Vec<u16>,
    child: Option<Child>,
}

impl Process {
    /// Starts it and waits until this very process answers every port and is ready there.
    ///
    /// # Panics
    /// When the binary is not built, or is not ready within a minute.
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
        let mut process = Self {
            name: name.to_owned(),
            binary: binary.to_owned(),
            arguments,
            environment: crate::limits::off_by_environment().chain(environment).collect(),
            log,
            ports,
            child: None,
        };
        process.restart().await;
        process
    }

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

    async fn ready(&mut self, port: u16, began: Instant) {
        let url = format!("http://127.0.0.1:{port}/actuator/health/readiness");
        loop {
            let is_ready = sosohappy_common::tls::client()
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success());
            if is_ready {
                self.assert_answers(port).await;
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

    /// Another process on the port would make a test pass, or fail, for a reason of its own.
    async fn assert_answers(&self, port: u16) {
        let url = format!("http://127.0.0.1:{port}/actuator/info");
        let answer = sosohappy_common::tls::client()
            .get(&url)
            .send()
            .await
            .expect("a ready process answers");
        let info: serde_json::Value = answer.json().await.expect("the answer is JSON");
        let pid = self.child.as_ref().map(Child::id);
        assert_eq!(
            info["process"]["pid"].as_u64(),
            pid.map(u64::from),
            "port {port} of {} is answered by another process: {info}",
            self.name
        );
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// SIGTERM, as Kubernetes sends it; answers how long it took to leave.
    pub(super) async fn leave(&mut self) -> Duration {
        let began = Instant::now();
        let mut child = self.child.take().expect("it runs");
        let sent = Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .expect("kill is a command of every system");
        assert!(sent.success(), "{} cannot be asked to leave", self.name);
        loop {
            if let Some(status) = child.try_wait().expect("our own child can be waited for") {
                assert!(
                    status.success(),
                    "{} left with {status}:\n{}",
                    self.name,
                    self.log_text()
                );
                return began.elapsed();
            }
            if began.elapsed() > READY {
                self.child = Some(child);
                panic!("{} does not leave:\n{}", self.name, self.log_text());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(super) fn resident(&self) -> u64 {
        let pid = self.child.as_ref().map_or(0, Child::id);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kibibytes.expect("a running process has a resident size") * 1024
    }
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
