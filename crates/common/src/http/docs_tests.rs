use axum::body::Body;
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::*;

#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "it is only documented")]
struct Parameters {
    text: String,
}

#[utoipa::path(
    post,
    path = "/save/{*path}",
    params(("path" = String, Path)),
    request_body = Parameters,
    security(("operatorToken" = [])),
    responses((status = 200, body = String), (status = 400, body = Problem), (status = 404, description = "Nothing", body = Problem)),
)]
async fn save() {}

#[utoipa::path(post, path = "/text", request_body(content = String, content_type = "text/plain"), responses((status = 204)))]
async fn text() {}

async fn get(path: &str) -> String {
    let (_, document) = OpenApiRouter::<()>::new()
        .routes(routes!(save))
        .routes(routes!(text))
        .split_for_parts();
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let answer = routes("test-service", document)
        .oneshot(request)
        .await
        .expect("an answer");
    let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    String::from_utf8(body.into()).expect("text")
}

#[tokio::test]
async fn common_answers_are_documented_at_each_operation() {
    let document: Value = serde_json::from_str(&get("/test-service/openapi.json").await).expect("JSON");
    let save = &document["paths"]["/save/{path}"]["post"];
    let schema = json!({"schema": {"$ref": "#/components/schemas/Parameters"}});
    let forms = json!({JSON: schema, FORMS[0]: schema, FORMS[1]: schema});
    assert_eq!(save["requestBody"]["content"], forms);
    let text = &document["paths"]["/text"]["post"];
    assert_eq!(
        text["requestBody"]["content"].as_object().map(serde_json::Map::len),
        Some(1)
    );

    let problem = json!({PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}});
    assert_eq!(save["responses"]["200"]["description"], "OK");
    assert_eq!(
        save["responses"]["400"],
        json!({"description": "Bad Request", "content": problem})
    );
    assert_eq!(
        save["responses"]["404"],
        json!({"description": "Nothing", "content": problem})
    );
    assert_eq!(text["responses"]["204"], json!({"description": "No Content"}));
    assert_eq!(text["responses"]["default"]["content"], problem);
    assert!(document["components"]["schemas"]["Problem"].is_object());

    let schemes = document["components"]["securitySchemes"].as_object().expect("schemes");
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["operatorToken"]);
}

#[tokio::test]
async fn the_page_names_its_service_and_asks_no_validator() {
    let page = get("/test-service/docs/").await;
    assert!(page.contains("<title>test-service</title>"), "{page}");
    let script = get("/test-service/docs/swagger-initializer.js").await;
    assert!(script.contains(r#""validatorUrl": "none""#), "{script}");
    assert!(script.contains("/test-service/openapi.json"), "{script}");
}
