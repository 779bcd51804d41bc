//! Webhooks of repository hosts.

use std::borrow::Cow;

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::Value;
use sosohappy_common::Problem;
use sosohappy_common::http::WholeBody;

use crate::App;
use crate::credentials::Operator;
use crate::domain::webhook::{Provider, Push, PushBody, names};
use crate::error::Error;
use crate::source::Outcome;
use crate::state::record::{Action, Entry};

/// Pauses in milliseconds between refreshes while the repository does not have the pushed commit.
const PAUSES: [u64; 6] = [100, 200, 400, 800, 1600, 3200];

/// Refreshes the source after a push of GitHub, GitLab, Gitea, Gogs, Gitee or Bitbucket, signed with `webhooks.secret`; or, from an operator, for
/// `path=` as a form or in JSON. Publishes refresh events to the applications of the files and returns their names; none for other events and
/// duplicates.
#[utoipa::path(
    post,
    path = "/monitor",
    tag = "bus",
    security((), ("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content((Value = "application/json"), (Value = "application/x-www-form-urlencoded"))),
    responses((status = 200, body = Vec<String>), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 408, body = Problem), (status = 413, body = Problem), (status = 503, body = Problem))
)]
pub async fn monitor(State(app): State<App>, request: Request) -> Result<Json<Vec<String>>, Response> {
    let headers = request.headers().clone();
    let provider = Provider::of(&headers);
    // The body of a caller without a credential is not read.
    let operator = admit(&app, provider, &headers).map_err(IntoResponse::into_response)?;
    let body = WholeBody::from_request(request, &app)
        .await
        .map_err(IntoResponse::into_response)?;
    let names = if let Some(provider) = provider {
        handle_webhook(&app, provider, operator.is_some(), headers, body).await
    } else {
        let actor = operator.map_or_else(String::new, |operator| operator.name);
        handle_paths(&app, &actor, &headers, &body.bytes).await
    };
    names.map(Json).map_err(IntoResponse::into_response)
}

/// Authorises a caller before the body is read.
///
/// | operator's token | provider's headers | result |
/// | --- | --- | --- |
/// | yes | any | the operator |
/// | no | yes, with a signature or token | none: the signature is verified with the body |
/// | no | yes, without | refused |
/// | no | no | refused |
fn admit(app: &App, provider: Option<Provider>, headers: &HeaderMap) -> Result<Option<Operator>, Error> {
    let settings = app.settings.get();
    let operator = Operator::of(headers, &settings);
    match (provider, operator) {
        (_, Ok(operator)) => Ok(Some(operator)),
        (None, Err(error)) => Err(error),
        (Some(provider), Err(_)) => {
            provider.precheck(headers, settings.webhooks.secret.as_ref())?;
            Ok(None)
        }
    }
}

/// Handles a list of changed paths of an operator.
async fn handle_paths(app: &App, actor: &str, headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, Error> {
    let paths = changed_paths(headers, body)?;
    let push = Push {
        paths: paths.into_iter().collect(),
        head: None,
    };
    refresh(app, actor, push).await
}

/// Handles a webhook of a repository host. An operator's request is accepted without a signature, and is then no duplicate of any other.
async fn handle_webhook(
    app: &App,
    provider: Provider,
    by_operator: bool,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Vec<String>, Error> {
    let now = app.context.clock.now();
    let webhooks = app.settings.get().webhooks.clone();
    let read = app.compute(move || {
        let secret = webhooks.secret.as_ref();
        let delivery = match provider.verify(&headers, &body.bytes, secret, now, webhooks.tolerance) {
            Ok(delivery) => Some(delivery),
            Err(_) if by_operator => None,
            Err(unverified) => return Err(Error::from(unverified)),
        };
        let json = json(&headers, &body.bytes)?;
        let push = PushBody::parse(&json).map_err(|_| Error::InvalidWebhook)?;
        Ok((delivery, provider.push(&headers, push)))
    });
    let (delivery, push) = read.await??;
    let Some(push) = push else {
        return Ok(Vec::new());
    };
    if let Some(delivery) = &delivery
        && app.deliveries.contains_key(delivery)
    {
        tracing::info!(provider = provider.name(), "duplicate webhook delivery ignored");
        return Ok(Vec::new());
    }
    let names = refresh(app, provider.name(), push).await?;
    if let Some(delivery) = delivery {
        // After the refresh: a failed delivery may be sent again.
        app.deliveries.insert(delivery, ());
    }
    Ok(names)
}

/// Refreshes the source and publishes refresh events. While the repository does not have the pushed commit the events are delayed to a task, so
/// that the host gets its response in time.
async fn refresh(app: &App, actor: &str, push: Push) -> Result<Vec<String>, Error> {
    let names = names(push.paths.iter().map(String::as_str));
    let entry = Entry::new(app.context.clock.now(), actor, Action::Webhook).detail(names.join(","));
    app.record(entry).await?;
    let outcome = app.source.refresh().await;
    let is_current = push
        .head
        .as_ref()
        .is_none_or(|(branch, commit)| app.source.stands_at(branch, commit));
    if outcome == Outcome::Unavailable || !is_current {
        // A host may send the webhook before all its servers have the commit. After these pauses polling finds it.
        let (app, head, destinations) = (app.clone(), push.head, names.clone());
        let draining = app.context.lifecycle.draining();
        app.context.lifecycle.clone().spawn("config-push", async move {
            for pause in PAUSES {
                let pause = tokio::time::sleep(std::time::Duration::from_millis(pause));
                if draining.run_until_cancelled(pause).await.is_none() {
                    return Ok(());
                }
                let outcome = app.source.refresh().await;
                let is_current = head
                    .as_ref()
                    .is_none_or(|(branch, commit)| app.source.stands_at(branch, commit));
                if outcome != Outcome::Unavailable && is_current {
                    break;
                }
            }
            if let Err(error) = app.announcer.refresh(destinations.iter().map(String::as_str)).await {
                tracing::warn!(%error, "publishing refresh event for webhook failed");
            }
            Ok(())
        });
        return Ok(names);
    }
    app.announcer.refresh(names.iter().map(String::as_str)).await?;
    Ok(names)
}

/// Returns the JSON of a webhook, which GitHub and others may send as the field `payload` of a form.
fn json<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
    if !is_form(headers) {
        return Ok(Cow::Borrowed(body));
    }
    let payload = url::form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    let (_, payload) = payload.ok_or(Error::InvalidWebhook)?;
    Ok(Cow::Owned(payload.into_owned().into_bytes()))
}

/// Returns the paths of a form, or of JSON, where `path` is a string or a list.
fn changed_paths(headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, Error> {
    if is_form(headers) {
        let fields = url::form_urlencoded::parse(body).filter(|(name, _)| name == "path");
        return Ok(fields.map(|(_, path)| path.into_owned()).collect());
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| Error::InvalidWebhook)?;
    let texts = |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match &body["path"] {
        Value::String(path) => Ok(vec![path.clone()]),
        Value::Array(paths) => Ok(texts(paths)),
        _ => Err(Error::InvalidWebhook),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
}
