//! A Kafka broker of one test, which it may kill.

use std::path::Path;
use std::process::{Command, Output};

/// Kafka of a test of its own, from `scripts/engines`, with its data in a temporary folder. Other tests do not notice what happens to it.
/// Killed when it is dropped. Its functions block until the script has ended, some seconds.
#[derive(Debug)]
pub struct Broker {
    folder: tempfile::TempDir,
}

impl Broker {
    /// Starts a broker, and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be created");
        let broker = Self { folder };
        broker.engines(&["up", "kafka"]);
        broker
    }

    /// Kills it, as a crash does: nothing is flushed, no client is notified.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self) {
        self.engines(&["kill", "kafka"]);
    }

    /// Starts it again after [`Broker::kill`], with its data and at the same address, and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&self) {
        self.engines(&["start", "kafka"]);
    }

    /// Returns its address as in `events.url`.
    ///
    /// # Panics
    /// If the script prints none.
    #[must_use]
    pub fn url(&self) -> String {
        let lines = self.engines(&["env", "kafka"]);
        let url = lines
            .lines()
            .find_map(|line| line.strip_prefix("export SOSOHAPPY_TEST_KAFKA='"));
        url.expect("an address").trim_end_matches('\'').to_owned()
    }

    /// Runs `scripts/engines`, and returns what it prints.
    fn engines(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).expect("the script runs");
        assert!(output.status.success(), "scripts/engines {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("the script prints text")
    }

    fn run(&self, arguments: &[&str]) -> std::io::Result<Output> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/engines");
        Command::new(script)
            .args(arguments)
            .env("SOSOHAPPY_ENGINES_DIR", self.folder.path())
            // Those of the other tests are not meant.
            .env_remove("SOSOHAPPY_TEST_KAFKA")
            .output()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Not running where a test has failed between a kill and a restart.
        let _ = self.run(&["kill", "kafka"]);
    }
}
