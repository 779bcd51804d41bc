//! Remote repositories over ssh and https.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde_json::Value;
use sosohappy_testkit::{Bed, EngineSet, ReservedPorts, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

use crate::Fixture;
use crate::repository::Repository;

const POLL: (&str, &str) = ("source.poll", "50ms");
const PASSWORD: &str = "hunter2hunter2";

/// Replaces `ssh` by a program that records its arguments (`-G` asks whether it is OpenSSH) and runs the remote command on this machine.
#[tokio::test]
async fn a_repository_over_ssh() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    let bed = Bed::new(EngineSet::Embedded).await;
    let (ssh, arguments) = (bed.folder().join("ssh"), bed.folder().join("arguments"));
    let script = format!(
        "#!/bin/sh\n\
         printf '%s\\n' \"$*\" >> '{}'\n\
         case \" $* \" in *' -G '*) exit 0 ;; esac\n\
         until [ \"$1\" = kim@git.example.com ]; do shift; done\n\
         shift\n\
         exec sh -c \"$*\"\n",
        arguments.display()
    );
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = format!("git:ssh://kim@git.example.com:2222{}", repository.bare().display());
    let command = format!("{} -oBatchMode=yes", ssh.display());
    let settings = [("source.url", url.as_str()), ("source.ssh-command", &command), POLL];
    let fixture = Fixture::on(bed, &settings).await;
    assert_eq!(fixture.json("/feed-config-default.json").await["a"], 1);
    repository.push("main", &[("feed-config.yml", "a: 2")]);
    eventually("the push is served", async || {
        (fixture.json("/feed-config-default.json").await["a"] == 2).then_some(())
    })
    .await;
    let calls = std::fs::read_to_string(arguments).unwrap();
    let first = calls.lines().find(|line| !line.contains(" -G ")).unwrap();
    for part in ["-oBatchMode=yes", "-p2222", "kim@git.example.com", "git-upload-pack"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    let name = fixture.json("/feed-config/default").await["propertySources"][0]["name"].clone();
    assert!(
        name.as_str().unwrap().starts_with("ssh://kim@git.example.com:2222/"),
        "{name}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_over_https_with_a_verified_certificate() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = folder.path().join("certificate.pem");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    let address = serve_git(&repository, &made).await;
    let url = format!("git:https://{address}/bare");

    // An untrusted certificate is refused.
    let strict = Process::start(&folder.path().join("strict"), &url, None);
    let reason = eventually("the reason is reported", async || strict.failure().await).await;
    assert!(
        reason.contains("certificate") || reason.contains("UnknownIssuer"),
        "{reason}"
    );
    assert!(!reason.contains(PASSWORD), "{reason}");
    drop(strict);

    let config = Process::start(&folder.path().join("trusting"), &url, Some(&certificate));
    eventually("it is served", async || (config.a().await? == 1).then_some(())).await;
    repository.push("main", &[("feed-config.yml", "a: 2")]);
    eventually("the push is served", async || (config.a().await? == 2).then_some(())).await;
}

/// `sosohappy-config` as a process with its own environment; killed when dropped.
struct Process {
    child: std::process::Child,
    port: u16,
    _reserved: ReservedPorts,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SERVICE: &str = "service-token-of-a-test";
const OPERATOR: &str = "operator-token-of-a-test";

impl Process {
    fn start(folder: &Path, url: &str, trusted: Option<&Path>) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut reserved = ReservedPorts::default();
        let port = reserved.reserve();
        let inside = |name: &str| folder.join(name).display().to_string();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sosohappy-config"));
        command
            .env("SOSOHAPPY_SERVICE_TOKEN", SERVICE)
            .env("SOSOHAPPY_OPERATOR_TOKEN", OPERATOR)
            .env("SOSOHAPPY_CONFIG__SERVER__PORT", port.to_string())
            .env(
                "SOSOHAPPY_CONFIG__EVENTS__URL",
                format!("journal:{}", inside("events.db")),
            )
            .env("SOSOHAPPY_CONFIG__STATE__FOLDER", inside("state"))
            .env("SOSOHAPPY_CONFIG__SOURCE__URL", url)
            .env("SOSOHAPPY_CONFIG__SOURCE__POLL", "50ms")
            .env("SOSOHAPPY_CONFIG__SOURCE__USERNAME", "kim")
            .env("SOSOHAPPY_CONFIG__SOURCE__PASSWORD", PASSWORD)
            .stdout(Stdio::null());
        if let Some(trusted) = trusted {
            command.env("SSL_CERT_FILE", trusted);
        }
        let child = command.spawn().unwrap();
        Self {
            child,
            port,
            _reserved: reserved,
        }
    }

    async fn ask(&self, path: &str, token: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let asked = sosohappy_common::tls::client().get(url).bearer_auth(token).send().await;
        asked.ok()?.json().await.ok()
    }

    async fn a(&self) -> Option<i64> {
        let answer = self.ask("/config-service/feed-config-default.json", SERVICE).await?;
        answer["a"].as_i64()
    }

    /// Returns why the source cannot be read.
    async fn failure(&self) -> Option<String> {
        let health = self.ask("/actuator/health", OPERATOR).await?;
        let reason = health["components"]["source"]["details"]["error"].as_str()?;
        reason.contains("unavailable").then(|| reason.to_owned())
    }
}

/// Serves a repository with git's own HTTP server behind TLS and Basic authentication.
async fn serve_git(repository: &Repository, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> SocketAddr {
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = Tls {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        acceptor: TlsAcceptor::from(Arc::new(tls)),
    };
    let address = listener.listener.local_addr().unwrap();
    let root = repository.bare().parent().unwrap().to_owned();
    let router = Router::new().fallback(git_http_backend).with_state(root);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate closes the connection.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Runs `git http-backend` over CGI (RFC 3875).
async fn git_http_backend(State(root): State<PathBuf>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("kim:{PASSWORD}"));
    if header(AUTHORIZATION.as_str()) != format!("Basic {basic}") {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"git\"")]).into_response();
    }
    let body: Bytes = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    let mut backend = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header(CONTENT_TYPE.as_str()))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = backend.stdin.take().unwrap();
    input.write_all(&body).await.unwrap();
    drop(input);
    let output = backend.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&output[..end]).unwrap();
    let mut fields: BTreeMap<_, _> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let status = fields
        .remove("Status")
        .and_then(|status| status.get(..3)?.parse::<u16>().ok());
    let mut response = Response::builder().status(status.unwrap_or(200));
    for (name, value) in fields {
        response = response.header(name, value);
    }
    response.body(output[end + 4..].to_vec().into()).unwrap()
}
