use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sosohappy_common::clock::{Entropy, SystemEntropy};

use super::process::Process;
use crate::engines::Real;
use crate::eventually;
use crate::ports::ReservedPorts;

const SERVICES: [&str; 5] = ["config", "auth", "feed", "dm", "notice"];

/// Two replicas of each service as processes on the real engines, behind a load balancer that asks their readiness, as in a cluster.
/// Services find config and auth through it too. Everything ends and goes when this is dropped.
#[derive(Debug)]
pub struct Balanced {
    /// By name, `feed-1`.
    processes: BTreeMap<String, Process>,
    balancer: Balancer,
    // Held for their drop: after the processes.
    _folder: tempfile::TempDir,
    _real: Real,
    _reserved: ReservedPorts,
}

/// How long one replica took.
#[derive(Debug, Clone, Copy)]
pub struct Rolled {
    /// From SIGTERM to its end.
    pub left: Duration,
    /// From its start to its readiness.
    pub ready: Duration,
}

impl Balanced {
    /// Time between unready and the closing of the port: some checks of the balancer, which looks five times a second.
    const DRAIN_DELAY: &str = "2s";

    /// # Panics
    /// When `HAProxy` or a binary is missing, or something does not come up.
    pub async fn start(binaries: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
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
            balancer.sees(name).await;
        }
        Self {
            processes,
            balancer,
            _folder: folder,
            _real: real,
            _reserved: reserved,
        }
    }

    /// The one address of everything.
    #[must_use]
    pub fn url(&self) -> String {
        self.balancer.url()
    }

    /// `config-1`, `config-2`, `auth-1`, …: in the order of a roll-out.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        SERVICES
            .iter()
            .flat_map(|service| [1, 2].map(|number| format!("{service}-{number}")))
            .collect()
    }

    /// Asks a replica to leave, starts it again, and waits until it is ready and the balancer knows.
    ///
    /// # Panics
    /// When there is none of that name, or it leaves with an error, or does not come back.
    pub async fn roll(&mut self, name: &str) -> Rolled {
        let process = self
            .processes
            .get_mut(name)
            .unwrap_or_else(|| panic!("there is no process {name}"));
        let left = process.leave().await;
        let ready = process.restart().await;
        self.balancer.sees(name).await;
        Rolled { left, ready }
    }
}

fn settings(service: &str, port: u16, balancer: &str, real: &Real, folder: &Path) -> Vec<(&'static str, String)> {
    let inside = |name: &str| format!("file:{}", folder.join(name).display());
    let mut settings = vec![
        ("SERVER__PORT", port.to_string()),
        ("SERVER__DRAIN_DELAY", Balanced::DRAIN_DELAY.to_owned()),
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

/// `HAProxy`, one backend a service, chosen by the first part of the path.
#[derive(Debug)]
struct Balancer {
    port: u16,
    statistics: u16,
    child: Child,
}

impl Balancer {
    fn start(servers: &[(&str, String, u16)], folder: &Path, reserved: &mut ReservedPorts) -> Self {
        let (port, statistics) = (reserved.reserve(), reserved.reserve());
        // No second try: what fails is to be seen.
        let mut text = format!(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 180s\n  timeout tunnel 1h\n  \
             retries 0\n  option httpchk GET /actuator/health/readiness\n  default-server check inter 200ms fall 1 rise 1\n\
             frontend fleet\n  bind 127.0.0.1:{port}\n  use_backend %[path,field(2,/)]\n\
             frontend statistics\n  bind 127.0.0.1:{statistics}\n  stats enable\n  stats uri /\n"
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

    /// Waits until it sends requests to that server.
    async fn sees(&self, name: &str) {
        let url = format!("http://127.0.0.1:{}/;csv", self.statistics);
        eventually(&format!("the balancer sees {name}"), async || {
            let text = sosohappy_common::tls::client()
                .get(&url)
                .send()
                .await
                .ok()?
                .text()
                .await
                .ok()?;
            let line = text.lines().find(|line| line.split(',').nth(1) == Some(name))?;
            // The check that says so, not the assumption it begins with.
            let fields: Vec<_> = line.split(',').collect();
            (fields.get(17) == Some(&"UP") && fields.contains(&"L7OK")).then_some(())
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("HAProxy stays behind: {error}");
        }
    }
}

/// Debian keeps it where only root looks.
fn binary() -> PathBuf {
    let usual = PathBuf::from("/usr/sbin/haproxy");
    if usual.exists() {
        usual
    } else {
        PathBuf::from("haproxy")
    }
}
