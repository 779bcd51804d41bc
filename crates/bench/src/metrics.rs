//! The metrics of a service, as it answers them.

/// Returns the metrics of the service at this URL, in the text exposition format.
pub async fn of(url: &str) -> anyhow::Result<String> {
    let url = format!("{url}/actuator/prometheus");
    let answer = sosohappy_common::tls::client().get(url).send().await?;
    Ok(answer.error_for_status()?.text().await?)
}

/// Returns the sum of all series of a metric; `None` if there is no series of that name.
pub fn sum(metrics: &str, name: &str) -> Option<f64> {
    let values = metrics.lines().filter_map(|line| {
        let (_, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        value.parse::<f64>().ok()
    });
    values.reduce(|one, other| one + other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_are_added_up() {
        let metrics = "# TYPE events_consumer_lag_records gauge\n\
            events_consumer_lag_records{application=\"dm\",topic=\"post\"} 3\n\
            events_consumer_lag_records{application=\"dm\",topic=\"resign\"} 0.5\n\
            events_consumer_lag_records_total{application=\"dm\"} 9\n";
        assert_eq!(sum(metrics, "events_consumer_lag_records"), Some(3.5));
        assert_eq!(sum(metrics, "outbox_pending_records"), None);
    }
}
