//! `/<service>/openapi.json` and the page to read and try it at `/<service>/docs`, assets in the binary.

use axum::Router;
use utoipa::openapi::{Content, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa_swagger_ui::SwaggerUi;

use super::problem::Problem;

/// Completes the document and gives the routes that show it.
pub(super) fn routes(service: &str, mut document: OpenApi) -> Router {
    document.info = InfoBuilder::new()
        .title(service)
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    document_problems(&mut document);
    SwaggerUi::new(format!("/{service}/docs"))
        .url(format!("/{service}/openapi.json"), document)
        .into()
}

/// Every operation may answer a problem: said once here instead of at each.
fn document_problems(document: &mut OpenApi) {
    use utoipa::PartialSchema as _;
    use utoipa::ToSchema as _;

    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(Problem::name()))));
    let description = "Anything that went wrong: RFC 9457 problem details with a stable `code`";
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .build();
    for path in document.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.put,
            &mut path.post,
            &mut path.delete,
            &mut path.options,
            &mut path.head,
            &mut path.patch,
            &mut path.trace,
        ];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses
                .entry("default".to_owned())
                .or_insert_with(|| RefOr::T(response.clone()));
        }
    }
}
