//! Spot comparisons through the APIs of both fleets: our services have to answer for a row what the legacy services answer.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use axum::body::{Body, to_bytes};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use sosohappy_common::Account;

use super::{Names, Report};
use crate::mirror::Side;
use crate::mirror::compare::{Answer, compare};
use crate::mirror::rules::{Rules, render};
use crate::mirror::sides::Sides;

/// Bytes of an answer.
const BODY_LIMIT: usize = 1 << 20;

/// A row may change in the legacy fleet between the two requests: a difference counts if it is still there afterwards.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);

/// Where both fleets answer, and which account sends the requests.
#[derive(Debug, Clone)]
pub struct Options {
    /// `URL` for all services, `SERVICE=URL` for one.
    pub spring: Vec<String>,
    pub ours: Vec<String>,
    pub account: Account,
    /// An access token of the account that both fleets accept.
    pub token: SecretString,
}

/// Both fleets.
#[derive(Debug)]
pub struct Apis {
    sides: Sides,
    rules: Rules,
    headers: HeaderMap,
    pub account: Account,
    /// Rows for which the fleets have answered differently.
    pub different: u64,
}

/// A read about one row.
pub struct Request<'a> {
    /// The row's id in the legacy database.
    pub row: &'a str,
    /// The service, and the route of it.
    pub route: (&'static str, &'static str),
    pub form: &'a [(&'a str, &'a str)],
}

impl Apis {
    /// Fails if an address is invalid, or the token is no header value.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", options.token.expose_secret()))
            .map_err(|_| anyhow!("the access token is no header value"))?;
        bearer.set_sensitive(true);
        let headers = [
            (header::AUTHORIZATION, bearer),
            (
                header::HeaderName::from_static("email"),
                HeaderValue::try_from(options.account.as_str())?,
            ),
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            ),
        ];
        Ok(Self {
            sides: Sides::new(&options.spring, &options.ours)?,
            rules: Rules::read(None)?,
            headers: headers.into_iter().collect(),
            account: options.account.clone(),
            different: 0,
        })
    }

    /// Returns the nickname of the account that sends the requests.
    pub fn nickname<'a>(&self, names: &'a Names) -> anyhow::Result<&'a str> {
        names
            .nickname_here(&self.account)
            .context("--as: the account was not imported")
    }

    /// Sends a read to both fleets. Writes a line of the report for each field in which the answers differ. Fails if a fleet cannot be
    /// asked, or the legacy one refuses the account.
    pub async fn compare(&mut self, report: &mut Report, request: Request<'_>) -> anyhow::Result<()> {
        let mut fields = self.differences(&request).await?;
        if !fields.is_empty() {
            tokio::time::sleep(CONFIRM_AFTER).await;
            fields = self.differences(&request).await?;
        }
        let (_, route) = request.route;
        if fields.is_empty() {
            report.count(route, "equal");
            return Ok(());
        }
        self.different += 1;
        report.count(route, "different");
        for field in fields {
            let reason = "the fleets answer differently";
            report.note(route, request.row, "different", Some(&field), reason)?;
        }
        Ok(())
    }

    async fn differences(&self, request: &Request<'_>) -> anyhow::Result<Vec<String>> {
        let (service, route) = request.route;
        let path = format!("/{service}/{route}");
        let spring = self.ask(Side::Spring, &path, request.form).await?;
        let ours = self.ask(Side::Ours, &path, request.form).await?;
        // Two refusals would be equal, and say nothing about the row.
        ensure!(
            spring.status.is_success() || spring.status == StatusCode::NOT_FOUND,
            "{path}: the legacy fleet answered {} to the account of --as",
            spring.status
        );
        let found = compare(&self.rules, &format!("POST {path}"), &spring, &ours);
        let fields = found.differences.iter().map(|difference| render(&difference.field));
        Ok(fields.collect())
    }

    async fn ask(&self, side: Side, path: &str, form: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let form = reqwest::Url::parse_with_params("http://form.invalid", form)?;
        let body = form.query().unwrap_or_default().to_owned();
        let answer = self
            .sides
            .send(side, Method::POST, path, self.headers.clone(), body.into());
        let answer = answer.await.with_context(|| format!("{side:?}: {path}"))?;
        let (parts, body) = answer.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(Body::new(body), BODY_LIMIT).await?,
        })
    }
}
