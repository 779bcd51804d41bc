use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::http::testing::{Bed, OPERATOR, eventually, problem, test_settings};
use crate::settings::Server;

#[tokio::test]
async fn health_aggregates_checks_and_hides_why() {
    let bed = Bed::new(test_settings()).await;
    bed.context
        .health
        .register("db", || async { Err("connection refused".to_owned()) });
    bed.context.health.register("bus", || async {
        Ok(serde_json::Map::from_iter([("lag".to_owned(), 3.into())]))
    });
    let (status, health) = bed.json("/actuator/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    insta::assert_snapshot!(health, @r#"{"status":"DOWN","components":{"db":{"status":"DOWN"},"bus":{"status":"UP"}}}"#);
    let asked = bed
        .http
        .get(bed.at("/actuator/health"))
        .bearer_auth(OPERATOR)
        .send()
        .await
        .expect("an answer");
    let health: Value = asked.json().await.expect("JSON");
    insta::assert_snapshot!(health["components"], @r#"{"db":{"status":"DOWN","details":{"error":"connection refused"}},"bus":{"status":"UP","details":{"lag":3}}}"#);
    assert_eq!(
        bed.json("/actuator/health/liveness").await.0,
        StatusCode::OK,
        "liveness asks no engine"
    );
    assert_eq!(bed.json("/actuator/health/readiness").await.0, StatusCode::OK);
    let gate = bed.context.lifecycle.gate("registry");
    let (status, readiness) = bed.json("/actuator/health/readiness").await;
    assert_eq!(
        (status, &readiness["waitingFor"][0]),
        (StatusCode::SERVICE_UNAVAILABLE, &Value::from("registry"))
    );
    gate.open();
    assert_eq!(bed.json("/actuator/health/readiness").await.0, StatusCode::OK);
}

#[tokio::test]
async fn liveness_fails_above_the_limit_of_memory() {
    let bed = Bed::new(test_settings()).await;
    let limited = async |memory_limit| {
        let limit = Server {
            memory_limit,
            ..test_settings()
        };
        bed.settings.replace(limit);
        bed.json("/actuator/health/liveness").await.0
    };
    for (limit, status) in [
        (0, StatusCode::OK),
        (1, StatusCode::SERVICE_UNAVAILABLE),
        (1 << 40, StatusCode::OK),
    ] {
        assert_eq!(limited(limit).await, status, "{limit}");
        let metrics = bed
            .http
            .get(bed.at("/actuator/prometheus"))
            .send()
            .await
            .expect("an answer");
        let metrics = metrics.text().await.expect("a text");
        let line = metrics
            .lines()
            .find(|line| line.starts_with("server_memory_limit_bytes{"));
        assert!(
            line.is_some_and(|line| line.ends_with(&format!(" {limit}"))),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn changes_need_the_operator() {
    let bed = Bed::new(test_settings()).await;
    let refresh = || bed.http.post(bed.at("/actuator/refresh"));
    let refused = refresh().send().await.expect("an answer");
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(problem(refused).await, (401, "credential-required".to_owned()));
    let service_token = refresh()
        .bearer_auth("service-token-of-a-test")
        .send()
        .await
        .expect("an answer");
    assert_eq!(service_token.status(), 401);
    let nothing = refresh().bearer_auth(OPERATOR).send().await.expect("an answer");
    assert_eq!(nothing.status(), 503, "no settings are attached");
    let trace = || bed.http.get(bed.at("/actuator/traces/r-1"));
    assert_eq!(trace().send().await.expect("an answer").status(), 401);
    let trace = trace().bearer_auth(OPERATOR).send().await.expect("an answer");
    let trace: Value = trace.json().await.expect("JSON");
    insta::assert_snapshot!(trace, @r#"{"spans":[]}"#);
    let level = bed
        .http
        .post(bed.at("/actuator/loggers/ROOT"))
        .json(&serde_json::json!({"configuredLevel": "DEBUG"}));
    assert_eq!(level.send().await.expect("an answer").status(), 401);
}

#[tokio::test]
async fn an_unknown_level_or_logger_is_refused() {
    let bed = Bed::new(test_settings()).await;
    let set = async |logger: &str, level: Value| {
        let request = bed
            .http
            .post(bed.at(&format!("/actuator/loggers/{logger}")))
            .bearer_auth(OPERATOR)
            .json(&serde_json::json!({"configuredLevel": level}));
        problem(request.send().await.expect("an answer")).await
    };
    let invalid = (400, "invalid-parameter".to_owned());
    for level in ["5", "", " ", "loud", "info,hyper=debug", "info=debug"] {
        assert_eq!(set("ROOT", level.into()).await, invalid, "{level:?}");
    }
    assert_eq!(set("ROOT", 5.into()).await, invalid);
    for logger in ["info%2Chyper", "hyper%3Ddebug", "%5Brequest%5D"] {
        assert_eq!(set(logger, "DEBUG".into()).await, invalid, "{logger}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_template() {
    let bed = Bed::new(test_settings()).await;
    bed.get("/test-service/image/7").await;
    bed.get("/test-service/image/8?email=kim@example.com").await;
    bed.get("/wp-login.php").await;
    // A client that leaves; one whose request has not arrived by then is not counted.
    eventually("a client that left is counted", async || {
        let client = bed
            .http
            .get(bed.at("/test-service/never"))
            .timeout(Duration::from_millis(200));
        assert!(client.send().await.is_err(), "the client leaves");
        bed.context.metrics.render().contains(r#"uri="/test-service/never""#)
    })
    .await;
    let answer = bed.get("/actuator/prometheus").await;
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = answer.text().await.expect("text");
    let count = |labels: &str| {
        let start = format!(
            "http_server_requests_seconds_count{{error=\"none\",exception=\"none\",{labels},application=\"test-service\"}} "
        );
        text.lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap_or_else(|| panic!("no {labels} in {text}"))
            .to_owned()
    };
    assert_eq!(
        count(r#"method="GET",outcome="SUCCESS",status="200",uri="/test-service/image/{imageId}""#),
        "2"
    );
    assert_eq!(
        count(r#"method="GET",outcome="CLIENT_ERROR",status="404",uri="NOT_FOUND""#),
        "1"
    );
    let left = count(r#"method="GET",outcome="UNKNOWN",status="UNKNOWN",uri="/test-service/never""#);
    assert!(left.parse::<u32>().is_ok_and(|left| left > 0), "{left}");
    assert!(
        !text.contains("wp-login") && !text.contains("kim@"),
        "no path and no query becomes a label"
    );
}

#[tokio::test]
async fn documents_are_served() {
    let bed = Bed::new(test_settings()).await;
    let (_, document) = bed.json("/test-service/openapi.json").await;
    assert_eq!(document["info"]["title"], "test-service");
    let responses = &document["paths"]["/test-service/image/{imageId}"]["get"]["responses"];
    let schema = &responses["default"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/Problem");
    assert!(document["components"]["schemas"]["Problem"]["properties"]["code"].is_object());
    let page = bed.get("/test-service/docs/").await;
    assert!(page.text().await.expect("text").contains("swagger-ui"));
}
