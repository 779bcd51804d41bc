//! The config service as seen by Spring clients and operators.

mod answers;
mod bus;
mod canary;
mod convergence;
mod encryption;
mod environment;
mod flags;
mod git;
mod hostile;
mod remote;
mod repository;
mod spring_client;
mod spring_requests;
mod versions;

use sosohappy_testkit::{Bed, EngineSet, Running};

/// A running config service over a folder with these files.
#[derive(Debug)]
pub struct Fixture {
    pub bed: Bed,
    pub config: Running,
    http: reqwest::Client,
    settings: Vec<(String, String)>,
}

impl Fixture {
    pub async fn new(files: &[(&str, &str)], settings: &[(&str, &str)]) -> Self {
        let bed = Bed::new(EngineSet::Embedded).await;
        for (path, text) in files {
            write(&bed, path, text);
        }
        Self::on(bed, settings).await
    }

    pub async fn on(bed: Bed, settings: &[(&str, &str)]) -> Self {
        let config = start(&bed, settings).await;
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            settings: settings.collect(),
            bed,
            config,
            http: sosohappy_common::tls::client(),
        }
    }

    /// Stops the service and starts it again.
    pub async fn restart(self) -> Self {
        self.config.stop().await;
        let settings: Vec<_> = self
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let config = start(&self.bed, &settings).await;
        Self { config, ..self }
    }

    pub fn write(&self, path: &str, text: &str) {
        write(&self.bed, path, text);
    }

    /// Returns a GET request as a service of the fleet, with its token as the password of Basic.
    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(path)
            .basic_auth("feed-service", Some(&self.bed.service_token))
    }

    pub fn anonymous(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(self.config.at(&format!("/config-service{path}")))
    }

    /// Returns a POST request of a text with a token as Bearer.
    pub fn post(&self, path: &str, token: &str, body: &str) -> reqwest::RequestBuilder {
        let url = self.config.at(&format!("/config-service{path}"));
        self.http.post(url).bearer_auth(token).body(body.to_owned())
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        self.get(path)
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub async fn text(&self, path: &str) -> String {
        self.get(path)
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.get(path).send().await.unwrap().status().as_u16()
    }
}

pub async fn start(bed: &Bed, settings: &[(&str, &str)]) -> Running {
    let settings = bed.settings("config", sosohappy_config::DEFAULTS, settings).await;
    let context = bed.context(sosohappy_config::SERVICE);
    let service = sosohappy_config::build(settings, context, bed.bus.clone()).await;
    bed.start(service).await
}

/// The service may read the folder at any moment: the file is there as a whole or not at all.
fn write(bed: &Bed, path: &str, text: &str) {
    let file = bed.folder().join("config").join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let beside = bed.folder().join("written");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file).unwrap();
}
