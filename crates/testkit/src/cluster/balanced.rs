//! A fleet behind a load balancer, for rolling restarts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sosohappy_common::clock::{Entropy, SystemEntropy};

use super::process::Process;
use crate::engines::Real;
use crate::ports::ReservedPorts;
use crate::{eventually, folder};

const SERVICES: [&str; 5] = ["config", "auth", "feed", "dm", "notice"];

/// Two replicas of each service as processes on the real engines, behind a load balancer that checks their readiness, as in a Kubernetes
/// cluster. Services also reach config and auth through it. Processes are killed and data is deleted when it is dropped.
#[derive(Debug)]
pub struct BalancedCluster {
    /// Processes by name, such as `feed-1`.
    processes: BTreeMap<String, Process>,
    balancer: Balancer,
    // Fields are dropped in order: data and ports after the processes.
    _folder: tempfile::TempDir,
    _real: Real,
    _reserved: ReservedPorts,
}

/// The times of one replica's restart.
#[derive(Debug, Clone, Copy)]
pub struct RestartTimes {
    /// From SIGTERM to the end of the process.
    pub shutdown: Duration,
    /// From the start of the process until it is ready.
    pub startup: Duration,
}

impl BalancedCluster {
    /// The time between unreadiness and the closing of the port: long enough for several health checks of the balancer, one every 200 ms,
    /// even if some take [`Balancer::CHECK_TIMEOUT`].
    const DRAIN_DELAY: &str = "5s";

    /// Starts the load balancer and all replicas.
    ///
    /// # Panics
    /// If `HAProxy` or a binary is missing, or a process does not become ready.
    pub async fn start(binaries: &Path) -> Self {
        let folder = folder::new();
        let entropy: &dyn Entropy = &SystemEntropy;
        let real = Real::from_environment(format!("test_{}_", entropy.hex(6)));
        let mut reserved = ReservedPorts::default();
        let servers: Vec<_> = SERVICES
            .iter()
            .flat_map(|service| [1, 2].map(|number| (*service, format!("{service}-{number}"), reserved.reserve())))
            .collect();
        let balancer = Balancer::start(&servers, folder.path(), &mut reserved);
        let secrets = BTreeMap::from([
            ("SOSOHAPPY_SERVICE_TOKEN".to_owned(), entropy.hex(16)),
            ("SOSOHAPPY_OPERATOR_TOKEN".to_owned(), entropy.hex(16)),
        ]);
        let mut processes = BTreeMap::new();
        for (service, name, port) in &servers {
            let upper = service.to_uppercase();
            let mut environment = secrets.clone();
            environment.extend(
                settings(service, *port, &balancer.url(), &real, folder.path())
                    .into_iter()
                    .map(|(key, value)| (format!("SOSOHAPPY_{upper}__{key}"), value)),
            );
            let binary = binaries.join(format!("sosohappy-{service}"));
            let process = Process::start(name, &binary, Vec::new(), environment, folder.path(), vec![*port]).await;
            processes.insert(name.clone(), process);
            balancer.wait_until_up(name).await;
        }
        Self {
            processes,
            balancer,
            _folder: folder,
            _real: real,
            _reserved: reserved,
        }
    }

    /// Returns the URL of the load balancer.
    #[must_use]
    pub fn url(&self) -> String {
        self.balancer.url()
    }

    /// Returns the names of all replicas in the order of a roll-out: `config-1`, `config-2`, `auth-1`, …
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        SERVICES
            .iter()
            .flat_map(|service| [1, 2].map(|number| format!("{service}-{number}")))
            .collect()
    }

    /// Shuts a replica down gracefully, starts it again, and waits until it is ready and the balancer sends it requests.
    ///
    /// # Panics
    /// If there is no replica with that name, it exits with an error, or it does not become ready.
    pub async fn restart(&mut self, name: &str) -> RestartTimes {
        let process = self
            .processes
            .get_mut(name)
            .unwrap_or_else(|| panic!("there is no process {name}"));
        let shutdown = process.terminate().await;
        let startup = process.restart().await;
        self.balancer.wait_until_up(name).await;
        RestartTimes { shutdown, startup }
    }
}

/// Returns the settings of a replica as environment variables without their prefix.
fn settings(service: &str, port: u16, balancer: &str, real: &Real, folder: &Path) -> Vec<(&'static str, String)> {
    let inside = |name: &str| format!("file:{}", folder.join(name).display());
    let mut settings = vec![
        ("SERVER__PORT", port.to_string()),
        ("SERVER__DRAIN_DELAY", BalancedCluster::DRAIN_DELAY.to_owned()),
        ("EVENTS__URL", real.kafka.clone()),
        ("EVENTS__PREFIX", real.prefix.clone()),
    ];
    if service == "config" {
        settings.push(("SOURCE__URL", inside("config")));
        settings.push((
            "STATE__FOLDER",
            folder.join(format!("config-state-{port}")).display().to_string(),
        ));
    } else {
        settings.push(("CONFIG__URL", format!("{balancer}/config-service")));
    }
    if matches!(service, "auth" | "feed") {
        settings.push(("DATABASE__URL", real.mysql_url(service)));
        settings.push(("IMAGES__URL", inside(&format!("{service}-images"))));
    }
    if matches!(service, "feed" | "dm" | "notice") {
        settings.push(("ACCESS__AUTH_URL", balancer.to_owned()));
    }
    match service {
        "auth" => settings.push(("SIGN_IN__PROOF", "none".to_owned())),
        "dm" => settings.push(("MESSAGES__URL", real.mongodb_url(service))),
        "notice" => settings.push(("INBOX__URL", real.mongodb_url(service))),
        _ => {}
    }
    settings
}

/// `HAProxy` with one backend a service, chosen by the first segment of the path.
#[derive(Debug)]
struct Balancer {
    port: u16,
    statistics: u16,
    child: Child,
}

impl Balancer {
    /// Without it a check that takes longer than the interval fails, as all do at times on a busy machine: then no server is left.
    const CHECK_TIMEOUT: &str = "2s";

    fn start(servers: &[(&str, String, u16)], folder: &Path, reserved: &mut ReservedPorts) -> Self {
        let (port, statistics) = (reserved.reserve(), reserved.reserve());
        // No retries: the measurement must count every failed request.
        let mut text = format!(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 180s\n  timeout tunnel 1h\n  \
             timeout check {check_timeout}\n  retries 0\n  option httpchk GET /actuator/health/readiness\n  default-server check inter 200ms fall 1 rise 1\n\
             frontend fleet\n  bind 127.0.0.1:{port}\n  use_backend %[path,field(2,/)]\n\
             frontend statistics\n  bind 127.0.0.1:{statistics}\n  stats enable\n  stats uri /\n",
            check_timeout = Self::CHECK_TIMEOUT,
        );
        let mut backend = "";
        for (service, name, port) in servers {
            if backend != *service {
                backend = service;
                let _ = writeln!(text, "backend {service}-service\n  balance roundrobin");
            }
            let _ = writeln!(text, "  server {name} 127.0.0.1:{port}");
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text).expect("a file can be written");
        let log = std::fs::File::create(folder.join("haproxy.log")).expect("a log can be written");
        let child = Command::new(binary())
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .expect("HAProxy is installed: scripts/setup test");
        Self {
            port,
            statistics,
            child,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until the balancer sends requests to that server.
    async fn wait_until_up(&self, name: &str) {
        let url = format!("http://127.0.0.1:{}/;csv", self.statistics);
        eventually(&format!("the balancer has {name} up"), async || {
            let text = sosohappy_common::tls::client()
                .get(&url)
                .send()
                .await
                .ok()?
                .text()
                .await
                .ok()?;
            let line = text.lines().find(|line| line.split(',').nth(1) == Some(name))?;
            // `UP` alone is HAProxy's assumption before the first health check; `L7OK` is the result of a check.
            let fields: Vec<_> = line.split(',').collect();
            (fields.get(17) == Some(&"UP") && fields.contains(&"L7OK")).then_some(())
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("failed to stop HAProxy: {error}");
        }
    }
}

/// Returns the path of `HAProxy`. Debian installs it in a folder that is not in the `PATH` of users.
fn binary() -> PathBuf {
    let usual = PathBuf::from("/usr/sbin/haproxy");
    if usual.exists() {
        usual
    } else {
        PathBuf::from("haproxy")
    }
}
