//! `/<service>/openapi.json` and the page to read and try it at `/<service>/docs`, assets in the binary.
//!
//! Rules that hold for every operation are added here instead of at each.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use utoipa::PartialSchema as _;
use utoipa::ToSchema as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::{Content, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::credential;
use super::operations::operations;
use super::problem::Problem;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
/// The media types that [`super::Params`] reads beside JSON.
const FORMS: [&str; 2] = ["application/x-www-form-urlencoded", "multipart/form-data"];

/// More than the page has; its scripts are files of their own.
const PAGE_BYTES: usize = 64 * 1024;

const ABOUT: &str = "Parameters are read alike from the query string, a form, a multipart form and a JSON object; what is in the body wins. \
     A list may be a repeated field, `name[0]`, `name[1]`…, or a text joined by commas. \
     An empty number, date or flag is an absent one. A part of a multipart form that is text or JSON by its type is a field, with or without a file \
     name; one that is a JSON object gives its members as fields. Parameters that a call does not know are ignored.";

/// Completes the document, and returns the routes that serve it.
pub(super) fn routes(service: &'static str, document: OpenApi) -> Router {
    let page = SwaggerUi::new(format!("/{service}/docs"))
        // By default the page sends the document to a validator of a third party.
        .config(Config::default().validator_url("none"))
        .url(format!("/{service}/openapi.json"), complete(service, document));
    Router::from(page).layer(map_response_with_state(service, titled))
}

/// Puts the name of the service into the title of the page: the library has one for all.
async fn titled(State(service): State<&'static str>, response: Response) -> Response {
    let html = |kind: &http::HeaderValue| kind.as_bytes().starts_with(b"text/html");
    if !response.headers().get(header::CONTENT_TYPE).is_some_and(html) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(page) = to_bytes(body, PAGE_BYTES).await else {
        return Problem::internal().into_response();
    };
    let title = format!("<title>{service}</title>");
    let page = String::from_utf8_lossy(&page).replace("<title>Swagger UI</title>", &title);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(page))
}

fn complete(service: &str, mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title(service)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .build();
    // The router's pattern for the rest of a path is not valid in OpenAPI.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();

    for operation in operations(&mut document) {
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            take_forms(body);
        }
        describe_responses(operation);
    }
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    credential::define(&mut document);
    document
}

/// Documents the other media types of a body that is documented by its type alone: parameters are read from all of them.
fn take_forms(body: &mut RequestBody) {
    if body.content.len() == 1
        && let Some(content) = body.content.get(JSON).cloned()
    {
        let forms = FORMS.map(|form| (form.to_owned(), content.clone()));
        body.content.extend(forms);
    }
}

/// Adds missing descriptions of responses, the media type of problems, and a default problem response to every operation.
fn describe_responses(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, response) in &mut *responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            reason(status).clone_into(&mut response.description);
        }
        let contents = std::mem::take(&mut response.content);
        response.content = contents
            .into_iter()
            .map(|(kind, content)| {
                let kind = if is_problem(&content) { PROBLEM.to_owned() } else { kind };
                (kind, content)
            })
            .collect();
    }
    responses.entry("default".to_owned()).or_insert_with(|| {
        let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
        let description = "An error: RFC 9457 problem details with a stable `code`";
        let response = ResponseBuilder::new().description(description);
        RefOr::T(response.content(PROBLEM, content).build())
    });
}

/// Returns the reason phrase of a status: `Bad Request` for 400.
fn reason(status: &str) -> &'static str {
    let status = status.parse::<StatusCode>().ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Anything else")
}

fn is_problem(content: &RefOr<Content>) -> bool {
    let RefOr::T(content) = content else { return false };
    let problem = Ref::from_schema_name(Problem::name());
    matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location == problem.ref_location)
}

#[cfg(test)]
#[path = "docs_tests.rs"]
mod tests;
