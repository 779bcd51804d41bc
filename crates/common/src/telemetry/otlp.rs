//! Export of spans to a collector over OTLP, HTTP with protobuf.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::lifecycle::TASK_SPAN;
use crate::settings::Tracing;

/// Creates the exporter; `None` without an endpoint. Spans are batched on a thread of their own, and dropped when the collector cannot keep
/// up: they never slow down requests.
pub(super) fn exporter(service: &str, settings: &Tracing) -> anyhow::Result<Option<SdkTracerProvider>> {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(None);
    };
    crate::tls::install_provider();
    let endpoint = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()?;
    // By the id of the trace alone, so that all services decide alike. Not by the sampled flag of the parent: it may be a client's, and a client
    // could have each of its requests exported.
    let sampler = Sampler::TraceIdRatioBased(settings.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(service.to_owned()).build())
        .build();
    Ok(Some(provider))
}

/// Returns whether a span is exported: all but the one around a task, which lives as long as the process. The spans inside are traces of
/// their own.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let tracer = provider.tracer("sosohappy");
    let exported = filter_fn(|metadata| metadata.is_span() && metadata.name() != TASK_SPAN);
    tracing_opentelemetry::layer().with_tracer(tracer).with_filter(exported)
}
