//! Cost of a sign-in and a re-issue: the statements of one request, as the database driver logs them inside the request's span.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sosohappy_testkit::{Bed, on_both_engines};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::subscriber::subscribe;
use crate::support::{Answer, Auth, Ground, KIM, Person, send};

on_both_engines!(statements_of_a_sign_in_and_a_reissue_are_counted);

/// Where the driver logs statements.
const STATEMENTS: &str = "sqlx::query";

/// The first words of the statements of each request, by request id.
type Log = HashMap<String, Vec<String>>;

static LOG: LazyLock<Mutex<Log>> = LazyLock::new(Mutex::default);

/// Records the statements of the requests in [`LOG`].
pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>() -> impl Layer<S> {
    Recorder.with_filter(filter_fn(|metadata| {
        metadata.is_span() || metadata.target() == STATEMENTS
    }))
}

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder;

/// The value of one field.
struct Named {
    name: &'static str,
    value: Option<String>,
}

impl Named {
    fn new(name: &'static str) -> Self {
        Self { name, value: None }
    }
}

impl Visit for Named {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.name {
            self.value = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The id of a request, on its span.
struct RequestId(String);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut request = Named::new("request_id");
        attributes.record(&mut request);
        if let (Some(request), Some(span)) = (request.value, context.span(id)) {
            span.extensions_mut().insert(RequestId(request));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut statement = Named::new("summary");
        event.record(&mut statement);
        let request = context
            .event_scope(event)
            .and_then(|mut spans| spans.find_map(|span| span.extensions().get::<RequestId>().map(|id| id.0.clone())));
        if let (Some(statement), Some(request)) = (statement.value, request)
            && let Some(statements) = log().get_mut(&request)
        {
            statements.push(statement);
        }
    }
}

/// The statements of a request.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    reads: usize,
    writes: usize,
}

/// Sends a request and counts its statements. The begin and the end of its transaction are not among them.
async fn cost(name: &str, bed: &Bed, request: reqwest::RequestBuilder) -> (Cost, Answer) {
    let id = format!("cost-{name}-{}", bed.context.entropy.hex(8));
    log().insert(id.clone(), Vec::new());
    let answer = send(request.header("x-request-id", &id)).await.expect(200);
    let statements = log().remove(&id).expect("it was inserted");
    let mut verbs = BTreeMap::<&str, usize>::new();
    for statement in &statements {
        *verbs
            .entry(statement.split_whitespace().next().unwrap_or_default())
            .or_default() += 1;
    }
    let of = |verb| verbs.get(verb).copied().unwrap_or_default();
    println!("{name} on {:?}: {statements:?}", bed.set);
    let cost = Cost {
        reads: of("SELECT"),
        writes: of("INSERT") + of("UPDATE") + of("DELETE"),
    };
    (cost, answer)
}

async fn sign_in(auth: &Auth, bed: &Bed) -> (Cost, Person) {
    let verifier = "abcdefghijklmnopqrst";
    let code = auth.code(verifier).await;
    let (email, provider, subject) = KIM;
    let form = [
        ("email", email),
        ("provider", provider),
        ("providerId", subject),
        ("codeVerifier", verifier),
        ("authorizeCode", &code),
        ("authorizationCode", ""),
        ("deviceToken", "a-push-token"),
    ];
    let (cost, answer) = cost("sign-in", bed, auth.post("signIn").form(&form)).await;
    (cost, Person::of(&answer))
}

async fn reissue(auth: &Auth, bed: &Bed, person: &Person) -> (Cost, Person) {
    let request = auth.get("reIssueToken").header("email", &person.account);
    let request = request.header("Authorization-refresh", format!("Bearer {}", person.refresh));
    let (cost, answer) = cost("re-issue", bed, request).await;
    (cost, Person::of(&answer))
}

/// docs/performance.md has the same numbers.
async fn statements_of_a_sign_in_and_a_reissue_are_counted(bed: Bed) {
    subscribe();
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (first, _) = sign_in(&auth, &ground.bed).await;
    ground.clock.advance(Duration::from_mins(1));
    let (again, kim) = sign_in(&auth, &ground.bed).await;
    ground.clock.advance(Duration::from_mins(1));
    let (renewed, fresh) = reissue(&auth, &ground.bed, &kim).await;
    let (repeated, _) = reissue(&auth, &ground.bed, &kim).await;
    // When no access token of the session lives any more, its timer is set again.
    ground.clock.advance(Duration::from_hours(11));
    let (late, _) = reissue(&auth, &ground.bed, &fresh).await;

    assert_eq!(first, Cost { reads: 9, writes: 10 }, "the first sign-in of an account");
    assert_eq!(again, Cost { reads: 6, writes: 10 }, "another sign-in");
    assert_eq!(renewed, Cost { reads: 4, writes: 3 }, "a re-issue");
    assert_eq!(repeated, Cost { reads: 3, writes: 0 }, "a repeated re-issue");
    assert_eq!(
        late,
        Cost { reads: 4, writes: 4 },
        "a re-issue after the access token has expired"
    );
}
