//! A whole day of two people through the mirror, between two fleets of ours: everything they are answered is equal, but for what the
//! rules say.

use std::path::Path;

use serde_json::Value;
use sosohappy_fleet::app::Addresses;
use sosohappy_fleet::{demo, mirror};
use sosohappy_testkit::{Cluster, Ports, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_equal_fleets_differ_in_nothing() {
    let binaries = Path::new(env!("CARGO_BIN_EXE_fleet")).parent().unwrap();
    let (spring, ours) = tokio::join!(Cluster::embedded(binaries), Cluster::embedded(binaries));
    let addresses = |Ports { auth, feed, dm, notice }: Ports| {
        [("auth", auth), ("feed", feed), ("dm", dm), ("notice", notice)]
            .map(|(service, port)| format!("{service}=http://127.0.0.1:{port}"))
            .to_vec()
    };
    let folder = tempfile::tempdir().unwrap();
    let options = mirror::Options {
        spring: addresses(spring.replicas[0]),
        ours: addresses(ours.replicas[0]),
        copy: true,
        writes: true,
        // Erasure and renames take their time, at each fleet another one.
        confirm: std::time::Duration::from_secs(20),
        ..crate::options("http://127.0.0.1:1", "http://127.0.0.1:1", folder.path())
    };
    let mirror = mirror::start(options, &mirror::shared().unwrap()).await.unwrap();
    demo::run(Addresses::behind(&format!("http://{}", mirror.address)))
        .await
        .unwrap();

    let report = async || {
        let url = format!("http://{}/mirror/report", mirror.admin);
        let answer = sosohappy_common::tls::client().get(url).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["routes"].clone()
    };
    let count = |routes: &Value, name: &str| -> u64 {
        let routes = routes.as_object().unwrap().values();
        routes.map(|route| route[name].as_u64().unwrap()).sum()
    };
    let routes = eventually("everything is compared", async || {
        let routes = report().await;
        let compared: u64 = mirror::OUTCOMES.iter().map(|name| count(&routes, name)).sum();
        (compared == count(&routes, "answered")).then_some(routes)
    })
    .await;
    let lines = std::fs::read_to_string(folder.path().join("differences.jsonl")).unwrap();
    assert_eq!(count(&routes, "different"), 0, "{lines}");
    assert!(count(&routes, "equal") > 20, "{routes}");
}
