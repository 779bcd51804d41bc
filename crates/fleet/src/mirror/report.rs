//! The report: a line of JSON for each difference and each move.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sosohappy_common::clock::{Clock, Entropy};
use tokio::sync::mpsc;

use super::compare::Difference;
use super::rules::{Rules, Segment, render};
use super::sides::Side;

/// Lines that wait for the disk; more are dropped and counted.
const QUEUE: usize = 1024;
/// Headers whose values are credentials: never shown.
const CREDENTIALS: [&str; 2] = ["authorization", "authorization-refresh"];

/// Renders values for people. Text is replaced by its length and a digest, so that equal texts are seen to be equal; the digest is
/// salted anew at each start, so that short texts cannot be found by trying.
#[derive(Debug, Clone)]
pub struct Redaction {
    salt: Arc<str>,
    show: bool,
}

impl Redaction {
    /// `show`: text is shown as it is, credentials never are.
    pub fn new(show: bool, entropy: &dyn Entropy) -> Self {
        Self {
            salt: entropy.hex(16).into(),
            show,
        }
    }

    fn value(&self, rules: &Rules, field: &[Segment], value: Option<&Value>) -> Value {
        let is_credential = matches!(field, [Segment::Name(header), Segment::Name(name)]
            if header == "header" && CREDENTIALS.contains(&name.as_str()));
        let shows = !is_credential && (self.show || rules.is_plain(field));
        match value {
            None => json!({"absent": true}),
            Some(Value::Number(number)) if rules.is_secret(field) => self.redacted(&number.to_string().into(), shows),
            Some(value) => self.redacted(value, shows),
        }
    }

    /// Returns text as it is shown.
    pub fn text(&self, text: &str) -> Value {
        self.redacted(&text.into(), self.show)
    }

    fn redacted(&self, value: &Value, shows: bool) -> Value {
        match value {
            Value::String(text) if !shows => {
                let digest = Sha256::new()
                    .chain_update(self.salt.as_bytes())
                    .chain_update(text)
                    .finalize();
                let digest = hex::encode(&digest[..4]);
                format!("text of {} characters, digest {digest}", text.chars().count()).into()
            }
            Value::Array(items) => items.iter().map(|item| self.redacted(item, shows)).collect(),
            Value::Object(fields) => {
                let redacted = |(name, value): (&String, &Value)| (name.clone(), self.redacted(value, shows));
                Value::Object(fields.iter().map(redacted).collect::<Map<_, _>>())
            }
            plain => plain.clone(),
        }
    }
}

/// Writes lines on a thread of its own; no request waits for the disk.
#[derive(Debug, Clone)]
pub struct Reporter {
    lines: mpsc::Sender<String>,
    dropped: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    redaction: Redaction,
}

impl Reporter {
    /// Appends to this file. The thread ends with the last clone; the handle waits for it.
    pub fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        redaction: Redaction,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let mut file = opened.with_context(|| path.display().to_string())?;
        let (lines, mut queue) = mpsc::channel::<String>(QUEUE);
        let shown = path.display().to_string();
        let write = move || {
            while let Some(line) = queue.blocking_recv() {
                if let Err(error) = file.write_all(line.as_bytes()) {
                    tracing::error!(%error, file = shown, "failed to write report");
                }
            }
        };
        let writer = std::thread::Builder::new()
            .name("mirror-report".to_owned())
            .spawn(write)?;
        let reporter = Self {
            lines,
            dropped: Arc::default(),
            clock,
            redaction,
        };
        Ok((reporter, writer))
    }

    /// Lines that were not written, because the disk was too slow for them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn differences(&self, rules: &Rules, request: &str, route: &str, confirmed: bool, differences: &[Difference]) {
        for Difference { field, spring, ours } in differences {
            self.line(json!({
                "kind": "difference",
                "requestId": request,
                "route": route,
                "field": render(field),
                "spring": self.redaction.value(rules, field, spring.as_ref()),
                "ours": self.redaction.value(rules, field, ours.as_ref()),
                "confirmed": confirmed,
            }));
        }
    }

    pub fn moved(&self, route: &str, side: Side, reason: &str) {
        self.line(json!({"kind": "move", "route": route, "to": side, "reason": reason}));
    }

    /// A frame that only one side has sent.
    pub fn frame(&self, request: &str, route: &str, only: Side, frame: &str) {
        let shown = self.redaction.text(frame);
        self.line(json!({"kind": "frame", "requestId": request, "route": route, "only": only, "frame": shown}));
    }

    /// A record that only one side has published.
    pub fn record(&self, topic: &str, only: Side, key: Option<&str>, value: Option<&str>) {
        let shown = |text: Option<&str>| text.map_or(Value::Null, |text| self.redaction.text(text));
        self.line(json!({"kind": "record", "topic": topic, "only": only, "key": shown(key), "value": shown(value)}));
    }

    pub fn summary(&self, mut summary: Value) {
        summary["kind"] = "summary".into();
        self.line(summary);
    }

    fn line(&self, fields: Value) {
        let mut line = json!({"time": self.clock.now().to_string()});
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        if self.lines.try_send(format!("{line}\n")).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    fn field(names: [&str; 2]) -> Vec<Segment> {
        names.map(|name| Segment::Name(name.to_owned())).to_vec()
    }

    #[test]
    fn texts_and_tokens_are_redacted() {
        let rules = Rules::read(None).unwrap();
        let redaction = Redaction::new(false, &SystemEntropy);
        let shown = |redaction: &Redaction, names, value: Value| redaction.value(&rules, &field(names), Some(&value));
        let secret = shown(&redaction, ["body", "text"], json!("오늘은"));
        assert!(
            secret.as_str().unwrap().starts_with("text of 3 characters, digest "),
            "{secret}"
        );
        assert_eq!(
            secret,
            shown(&redaction, ["body", "text"], json!("오늘은")),
            "equal texts are seen to be equal"
        );
        let salted = Redaction::new(false, &SystemEntropy);
        assert_ne!(
            secret,
            shown(&salted, ["body", "text"], json!("오늘은")),
            "another run has another salt"
        );
        assert_eq!(shown(&redaction, ["body", "happiness"], json!(3)), json!(3));
        assert_eq!(shown(&redaction, ["body", "weather"], json!("sunny")), json!("sunny"));
        let nested = shown(&redaction, ["body", "post"], json!({"text": ["secret"], "date": 1}));
        assert!(
            !nested.to_string().contains("secret") && nested["date"] == 1,
            "{nested}"
        );
        let id = shown(&redaction, ["body", "imageId"], json!(4_711_815));
        assert!(!id.to_string().contains("4711815"), "an id opens its picture: {id}");
        assert_eq!(
            redaction.value(&rules, &field(["body", "text"]), None),
            json!({"absent": true})
        );

        let open = Redaction::new(true, &SystemEntropy);
        assert_eq!(shown(&open, ["body", "text"], json!("오늘은")), json!("오늘은"));
        let token = shown(&open, ["header", "authorization"], json!("Bearer a.b.c"));
        assert!(!token.to_string().contains("a.b.c"), "{token}");
    }
}
