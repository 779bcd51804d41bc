//! Documents and routes match, and each service serves its own API pages.

use reqwest::StatusCode;
use sosohappy_fleet::app::Addresses;
use sosohappy_testkit::Cluster;

use crate::{addresses, routes};

/// The service knows the path and the method of every documented route.
pub async fn every_documented_route_exists(fleet: &Cluster) {
    for route in routes::all(&addresses(fleet.replicas[0])).await {
        let response = sosohappy_common::tls::client()
            .request(route.method.clone(), &route.url)
            .send()
            .await
            .unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        let unknown = status == StatusCode::METHOD_NOT_ALLOWED || text.contains("\"no-such-route\"");
        assert!(!unknown, "{} {} returned {status}: {text}", route.method, route.path);
    }
}

/// Services register routes only with `routes!`, which takes path and method from the document.
#[test]
fn every_route_is_documented() {
    let services = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services");
    let mut seen = 0;
    for service in ["auth", "config", "dm", "feed", "notice"] {
        let text = std::fs::read_to_string(services.join(service).join("src/routes.rs")).unwrap();
        seen += text.matches("routes!(").count();
        for undocumented in [".route(", ".route_service(", ".nest_service(", ".fallback("] {
            assert!(
                !text.contains(undocumented),
                "{service} registers a route with {undocumented}…), which is not documented"
            );
        }
    }
    assert!(seen > 25, "only {seen} routes were found");
}

/// The API page loads its scripts from the service itself.
pub async fn the_api_page_and_its_scripts_are_in_the_binary(fleet: &Cluster) {
    let Addresses { auth, feed, dm, notice } = addresses(fleet.replicas[0]);
    for (service, address) in [("auth", auth), ("feed", feed), ("dm", dm), ("notice", notice)] {
        let page = sosohappy_common::tls::client()
            .get(format!("{address}/{service}-service/docs/"))
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
        let html = page.text().await.unwrap();
        assert!(html.contains(&format!("<title>{service}-service</title>")), "{html}");
        let scripts: Vec<_> = html
            .split("src=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(!scripts.is_empty(), "{service}: {html}");
        for script in scripts {
            assert!(!script.contains("://"), "{service} loads {script} from elsewhere");
            let url = format!("{address}/{service}-service/docs/{}", script.trim_start_matches("./"));
            sosohappy_common::tls::client()
                .get(url)
                .send()
                .await
                .unwrap()
                .error_for_status()
                .unwrap();
        }
    }
}
