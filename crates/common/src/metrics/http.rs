use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts};

const LABELS: [&str; 6] = ["error", "exception", "method", "outcome", "status", "uri"];
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// The window of the maximum, which covers this window and the one before.
const WINDOW: Duration = Duration::from_mins(1);

/// `http_server_requests_seconds` and its `_max`, as Micrometer names and labels them.
#[derive(Debug, Clone)]
pub(crate) struct HttpMetrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    seconds: HistogramVec,
    max: GaugeVec,
    /// By route template: looked up without allocating a key.
    series: RwLock<HashMap<String, ByOutcome>>,
}

/// By method and status.
type ByOutcome = HashMap<(&'static str, Status), Arc<Series>>;

/// A status code; `None` for a request whose client disconnected before the response.
type Status = Option<u16>;

#[derive(Debug)]
struct Series {
    histogram: Histogram,
    window: Mutex<Window>,
}

/// The greatest value of the current and of the last minute.
#[derive(Debug, Default)]
struct Window {
    number: u64,
    current: f64,
    last: f64,
}

impl Window {
    fn turn_to(&mut self, number: u64) {
        if number > self.number {
            self.last = if number == self.number + 1 { self.current } else { 0.0 };
            self.current = 0.0;
            self.number = number;
        }
    }
}

impl HttpMetrics {
    pub(crate) fn new() -> Self {
        let name = "http_server_requests_seconds";
        let opts = HistogramOpts::new(
            name,
            "Time from the end of a request's headers to the head of its answer",
        );
        let max = Opts::new(format!("{name}_max"), "The longest of the last one to two minutes");
        let inner = Inner {
            began: Instant::now(),
            seconds: HistogramVec::new(opts.buckets(BUCKETS.to_vec()), &LABELS).expect("names are valid"),
            max: GaugeVec::new(max, &LABELS).expect("names are valid"),
            series: RwLock::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Records a request. `uri` is the template of its route, or one of Micrometer's values for unknown routes.
    pub(crate) fn record(&self, method: &'static str, uri: &str, status: Status, took: Duration) {
        let known = self.inner.series.read();
        if let Some(series) = known.get(uri).and_then(|series| series.get(&(method, status))) {
            series.record(took, self.inner.window());
            return;
        }
        drop(known);
        self.inner.make(method, uri, status).record(took, self.inner.window());
    }
}

impl Series {
    fn record(&self, took: Duration, window_number: u64) {
        let seconds = took.as_secs_f64();
        self.histogram.observe(seconds);
        let mut window = self.window.lock();
        window.turn_to(window_number);
        window.current = window.current.max(seconds);
    }
}

impl Inner {
    fn window(&self) -> u64 {
        self.began.elapsed().as_secs() / WINDOW.as_secs()
    }

    fn make(&self, method: &'static str, uri: &str, status: Status) -> Arc<Series> {
        let mut all = self.series.write();
        let by_uri = all.entry(uri.to_owned()).or_default();
        let series = by_uri.entry((method, status)).or_insert_with(|| {
            let histogram = with_labels(method, uri, status, |labels| self.seconds.with_label_values(labels));
            Arc::new(Series {
                histogram,
                window: Mutex::default(),
            })
        });
        series.clone()
    }
}

fn with_labels<T>(method: &str, uri: &str, status: Status, then: impl FnOnce(&[&str]) -> T) -> T {
    let text = status.map_or_else(|| "UNKNOWN".to_owned(), |status| status.to_string());
    then(&["none", "none", method, outcome(status), &text, uri])
}

fn outcome(status: Status) -> &'static str {
    match status {
        Some(100..=199) => "INFORMATIONAL",
        Some(200..=299) => "SUCCESS",
        Some(300..=399) => "REDIRECTION",
        Some(400..=499) => "CLIENT_ERROR",
        Some(500..=599) => "SERVER_ERROR",
        _ => "UNKNOWN",
    }
}

impl Collector for HttpMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let mut descs = self.inner.seconds.desc();
        descs.extend(self.inner.max.desc());
        descs
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let number = self.inner.window();
        for (uri, by_uri) in self.inner.series.read().iter() {
            for ((method, status), series) in by_uri {
                let mut window = series.window.lock();
                window.turn_to(number);
                let max = window.current.max(window.last);
                with_labels(method, uri, *status, |labels| {
                    self.inner.max.with_label_values(labels).set(max);
                });
            }
        }
        let mut families = self.inner.seconds.collect();
        families.extend(self.inner.max.collect());
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_forgets_after_two_windows() {
        let mut window = Window {
            number: 0,
            current: 3.0,
            last: 0.0,
        };
        window.turn_to(1);
        assert_eq!((window.current, window.last), (0.0, 3.0));
        window.current = 1.0;
        window.turn_to(2);
        assert_eq!((window.current, window.last), (0.0, 1.0));
        window.turn_to(9);
        assert_eq!((window.current, window.last), (0.0, 0.0));
    }

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = crate::metrics::Metrics::new("feed-service");
        let http = metrics.register(HttpMetrics::new());
        http.record(
            "GET",
            "/feed-service/image/{imageId}",
            Some(200),
            Duration::from_millis(3),
        );
        http.record(
            "GET",
            "/feed-service/image/{imageId}",
            Some(200),
            Duration::from_millis(7),
        );
        http.record("POST", "NOT_FOUND", Some(404), Duration::from_millis(1));
        http.record("POST", "UNKNOWN", None, Duration::from_millis(1));
        let text = metrics.render();
        let labels = r#"{error="none",exception="none",method="GET",outcome="SUCCESS",status="200",uri="/feed-service/image/{imageId}",application="feed-service"}"#;
        assert!(
            text.contains(&format!("http_server_requests_seconds_count{labels} 2")),
            "{text}"
        );
        assert!(
            text.contains(&format!("http_server_requests_seconds_max{labels} 0.007")),
            "{text}"
        );
        assert!(
            text.contains(r#"outcome="CLIENT_ERROR",status="404",uri="NOT_FOUND",application="feed-service"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"outcome="UNKNOWN",status="UNKNOWN",uri="UNKNOWN",application="feed-service"} 1"#),
            "{text}"
        );
    }
}
