//! A service that serves within the test's process.

use std::time::Duration;

use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::PATIENCE;

/// A service on a free port of loopback. Stops when dropped.
#[derive(Debug)]
pub struct Running {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    pub context: Context,
    serving: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    /// Starts a service and waits until it is ready.
    ///
    /// # Panics
    /// If it is not ready within [`PATIENCE`].
    pub async fn start(service: Service) -> Self {
        let running = Self::serve(service).await;
        let context = &running.context;
        let ready = tokio::time::timeout(PATIENCE, context.lifecycle.ready()).await;
        assert!(
            ready.is_ok(),
            "{} is not ready: {:?}",
            context.service,
            context.lifecycle.readiness()
        );
        running
    }

    /// Starts a service without waiting until it is ready.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn serve(service: Service) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let url = format!(
            "http://{}",
            listener.local_addr().expect("a bound listener has an address")
        );
        let context = service.context.clone();
        let serving = tokio::spawn(service.serve(listener));
        Self {
            url,
            context,
            serving: Some(serving),
        }
    }

    /// Returns the URL of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Returns the WebSocket URL of a path.
    #[must_use]
    pub fn socket_at(&self, path: &str) -> String {
        format!("ws{}{path}", self.url.trim_start_matches("http"))
    }

    /// Returns the sum of a metric's series that have all these labels (`kind="mail"`).
    ///
    /// # Panics
    /// If a value is not a number.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.context.metrics.render();
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        let values = series.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        values.sum::<Result<f64, _>>().expect("values are numbers")
    }

    /// Shuts the service down gracefully, as on SIGTERM.
    pub async fn stop(mut self) {
        self.context.lifecycle.shutdown(Duration::from_secs(5)).await;
        if let Some(serving) = self.serving.take() {
            serving
                .await
                .expect("serving does not panic")
                .expect("serving ends without an error");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.context.lifecycle.leave();
        self.context.lifecycle.draining().cancel();
        self.context.lifecycle.stopped().cancel();
    }
}
