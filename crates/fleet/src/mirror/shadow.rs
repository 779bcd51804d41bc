//! The other side: copies of requests are sent to it, and its answers are compared.
//!
//! Nothing here delays an answer to a client. A comparison takes one of a fixed number of places from its request to its end; a request
//! that finds none is not compared.
//!
//! The other side gets requests in an order that has no effect before its cause: a request is sent once every request that was answered
//! before this one came has been answered by the other side as well ([`Order`]). So a sign-in precedes the requests with its token, and a
//! post precedes its likes, whichever client sends them; concurrent requests stay concurrent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Uri};
use parking_lot::Mutex;
use sosohappy_common::lifecycle::{Lifecycle, Stage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::body::{self, Copied, copied};
use super::compare::{Answer, Findings, compare};
use super::pairs::Pairs;
use super::report::Reporter;
use super::routes::{Matched, Outcome, Routes, Serving};
use super::rules::{Kind, Rules};
use super::sides::{Side, Sides, path_of};

/// How long the body of a request is waited for.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to the client may take to be read, so that a slow client does not keep its place.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// A write between two reads makes them differ: both sides are asked again after this, then after twice as long, and so on.
const CONFIRM_AFTER: Duration = Duration::from_millis(100);

/// Compares the answers of both sides by the rules.
#[derive(Debug)]
pub struct Comparer {
    pub sides: Sides,
    pub routes: Arc<Routes>,
    pub rules: Arc<Rules>,
    pub pairs: Pairs,
    pub reporter: Reporter,
    pub clock: Arc<dyn sosohappy_common::clock::Clock>,
    pub order: Arc<Order>,
    /// Whether writes reach both sides.
    pub writes: bool,
    /// Longest body that is compared, in bytes.
    pub body_limit: usize,
    /// How long the other side may take for its whole answer.
    pub timeout: Duration,
    /// How long a read that differs is asked again before it counts as different.
    pub confirm: Duration,
}

/// Requests that clients have an answer to and the other side has not answered yet.
#[derive(Debug, Default)]
pub struct Order(Mutex<Answered>);

#[derive(Debug, Default)]
struct Answered {
    next: u64,
    open: BTreeMap<u64, CancellationToken>,
}

/// Requests that have to be finished before a request may be sent.
#[derive(Debug)]
pub struct Before(Vec<CancellationToken>);

impl Before {
    /// Waits for all of it, at most for this long.
    pub async fn done(self, most: Duration) {
        let wait = async {
            for done in self.0 {
                done.cancelled().await;
            }
        };
        // After that the request is sent out of order rather than not at all.
        let _late = tokio::time::timeout(most, wait).await;
    }
}

/// A request whose effect later ones may depend on, until it is dropped.
#[derive(Debug)]
pub struct Step {
    order: Arc<Order>,
    number: u64,
    done: CancellationToken,
}

impl Order {
    /// Returns what a request that comes now has to wait for.
    pub fn before(&self) -> Before {
        Before(self.0.lock().open.values().cloned().collect())
    }

    pub fn step(self: &Arc<Self>) -> Step {
        let mut answered = self.0.lock();
        answered.next += 1;
        Step {
            order: self.clone(),
            number: answered.next,
            done: CancellationToken::new(),
        }
    }
}

/// Marks the step whose answer is handed to its client.
#[derive(Debug, Clone)]
pub struct Mark {
    order: Arc<Order>,
    number: u64,
    done: CancellationToken,
}

impl Step {
    pub fn mark(&self) -> Mark {
        Mark {
            order: self.order.clone(),
            number: self.number,
            done: self.done.clone(),
        }
    }
}

impl Mark {
    /// From here on later requests wait for this one.
    pub fn answered(&self) {
        let mut answered = self.order.0.lock();
        // Its comparison may have ended already.
        if !self.done.is_cancelled() {
            answered.open.insert(self.number, self.done.clone());
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // Under the lock: a mark is made before this, and removed, or sees the cancelled token.
        let mut answered = self.order.0.lock();
        answered.open.remove(&self.number);
        self.done.cancel();
    }
}

/// Starts comparisons.
#[derive(Debug)]
pub struct Shadow {
    places: Arc<Semaphore>,
    comparer: Arc<Comparer>,
    lifecycle: Lifecycle,
}

/// A request without its body.
#[derive(Debug)]
pub struct Copy {
    pub id: String,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
}

/// A comparison that has its place.
#[derive(Debug)]
pub struct Job {
    matched: Matched,
    /// The side that answered when the request came.
    serving: Serving,
    copy: Copy,
    before: Before,
    step: Step,
    place: OwnedSemaphorePermit,
}

/// A comparison once its request may be sent.
#[derive(Debug)]
struct Request {
    matched: Matched,
    serving: Serving,
    copy: Copy,
    body: bytes::Bytes,
}

type Head = (StatusCode, HeaderMap, oneshot::Receiver<Copied>);

/// Where the answer to the client is handed over. Dropped unused, the answering side did not answer.
#[derive(Debug)]
pub struct Answering {
    head: oneshot::Sender<Head>,
    mark: Mark,
}

impl Answering {
    pub fn answer(self, status: StatusCode, headers: HeaderMap, body: oneshot::Receiver<Copied>) {
        self.mark.answered();
        // The comparison may have been given up.
        let _given_up = self.head.send((status, headers, body));
    }
}

impl Shadow {
    /// `places`: comparisons at once.
    pub fn new(comparer: Comparer, places: usize, lifecycle: Lifecycle) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            comparer: Arc::new(comparer),
            lifecycle,
        })
    }

    pub fn comparer(&self) -> &Arc<Comparer> {
        &self.comparer
    }

    /// Whether requests to routes of this kind reach both sides.
    pub fn compares(&self, kind: Kind) -> bool {
        match kind {
            Kind::Read => true,
            Kind::Write => self.comparer.writes,
            Kind::Socket => false,
        }
    }

    /// Returns a comparison, or `None` when every place is taken.
    pub fn job(&self, matched: Matched, serving: Serving, copy: Copy) -> Option<Job> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let order = &self.comparer.order;
        Some(Job {
            matched,
            serving,
            copy,
            before: order.before(),
            step: order.step(),
            place,
        })
    }

    /// Starts a comparison whose request body is being passed on.
    pub fn start(&self, job: Job, body: oneshot::Receiver<Copied>) -> Answering {
        let (head, answer) = oneshot::channel();
        let mark = job.step.mark();
        let comparer = self.comparer.clone();
        let draining = self.lifecycle.draining_at(Stage::Consuming);
        self.lifecycle.spawn_at(Stage::Consuming, "comparison", async move {
            tokio::select! {
                () = comparer.run(job, body, answer) => {}
                () = draining.cancelled() => {}
            }
            Ok(())
        });
        Answering { head, mark }
    }
}

/// Why there is no answer to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Unanswered,
    TooLarge,
    Aborted,
}

impl Missing {
    fn outcome(self, side: Side) -> Outcome {
        match self {
            Self::Unanswered => Outcome::Unanswered(side),
            Self::TooLarge => Outcome::TooLarge,
            Self::Aborted => Outcome::Aborted,
        }
    }
}

impl Comparer {
    /// Sends a request to the other side in its turn and compares both answers.
    async fn run(&self, job: Job, body: oneshot::Receiver<Copied>, answer: oneshot::Receiver<Head>) {
        let Job {
            matched,
            serving,
            copy,
            before,
            step,
            place: _place,
        } = job;
        let route = matched.route.clone();
        let body = match tokio::time::timeout(UPLOAD_TIMEOUT, copied(body)).await {
            Ok(Copied::Whole(body)) => Ok(body),
            Ok(Copied::TooLarge) => Err(Outcome::TooLarge),
            Ok(Copied::Aborted | Copied::Broken) => Err(Outcome::Aborted),
            Err(_) => Err(Outcome::Dropped),
        };
        let body = match body {
            Ok(body) => body,
            Err(outcome) => return self.routes.compared(&route, serving.epoch, outcome),
        };
        before.done(self.timeout).await;
        let request = Request {
            matched,
            serving,
            copy,
            body,
        };
        let to = serving.side.other();
        let (other, answer) = tokio::join!(self.ask(to, &request), self.answer(answer));
        let outcome = match (&answer, &other) {
            (Err(missing), _) => missing.outcome(serving.side),
            (_, Err(missing)) => missing.outcome(to),
            (Ok(answer), Ok(other)) => match self.findings(&request, answer, other) {
                Err(side) => Outcome::Unanswered(side),
                Ok(findings) if findings.differences.is_empty() => Outcome::Equal,
                Ok(findings) => {
                    // The pairs of this answer are known: requests that wait for it may go.
                    drop(step);
                    self.confirm(&request, findings).await
                }
            },
        };
        self.routes.compared(&route, serving.epoch, outcome);
    }

    /// Waits for the answer to the client.
    async fn answer(&self, answer: oneshot::Receiver<Head>) -> Result<Answer, Missing> {
        let wait = async {
            let (status, headers, body) = answer.await.map_err(|_| Missing::Unanswered)?;
            match copied(body).await {
                Copied::Whole(body) => Ok(Answer { status, headers, body }),
                Copied::TooLarge => Err(Missing::TooLarge),
                Copied::Aborted => Err(Missing::Aborted),
                Copied::Broken => Err(Missing::Unanswered),
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, wait)
            .await
            .unwrap_or(Err(Missing::Aborted))
    }

    /// Asks one side; the one that does not answer clients is given its own names.
    async fn ask(&self, side: Side, request: &Request) -> Result<Answer, Missing> {
        let Copy {
            method, uri, headers, ..
        } = &request.copy;
        let (mut headers, mut path, mut body) = (headers.clone(), path_of(uri), request.body.clone());
        headers.remove(header::ACCEPT_ENCODING);
        if side != request.serving.side {
            body = self.pairs.translate_body(side, &headers, body);
            path = self.pairs.translate_path(side, uri, &request.matched.parts);
            self.pairs.translate_headers(side, &mut headers);
        }
        // The client computes it anew.
        headers.remove(header::CONTENT_LENGTH);
        let began = self.clock.monotonic();
        let asking = async {
            let sent = self.sides.send(side, method.clone(), &path, headers, body.into()).await;
            let answer = sent.map_err(|error| {
                tracing::debug!(%side, %error, request_id = request.copy.id, "comparison failed: upstream unavailable");
                Missing::Unanswered
            })?;
            let taken = self.clock.monotonic().saturating_sub(began);
            request.matched.route.shadowed(side, taken);
            let (parts, body) = answer.into_parts();
            match body::read(body, self.body_limit).await {
                Ok(Copied::Whole(body)) => Ok(Answer {
                    status: parts.status,
                    headers: parts.headers,
                    body,
                }),
                Ok(Copied::TooLarge) => Err(Missing::TooLarge),
                Ok(Copied::Aborted | Copied::Broken) | Err(_) => Err(Missing::Unanswered),
            }
        };
        tokio::time::timeout(self.timeout, asking)
            .await
            .unwrap_or(Err(Missing::Unanswered))
    }

    /// Asks both sides for a read again until they agree or the time is up. A write was done, and is not done again.
    async fn confirm(&self, request: &Request, first: Findings) -> Outcome {
        let route = &request.matched.route;
        let mut findings = first;
        let mut confirmed = true;
        if route.template.kind == Kind::Read {
            let since = self.clock.monotonic();
            // One at a time on a route, so that one that always differs asks both sides at most twice as often.
            let _confirming = route.confirming.lock().await;
            let mut pause = CONFIRM_AFTER.saturating_sub(self.clock.monotonic().saturating_sub(since));
            loop {
                tokio::time::sleep(pause).await;
                let side = request.serving.side;
                let again = tokio::join!(self.ask(side, request), self.ask(side.other(), request));
                let again = match again {
                    (Ok(answer), Ok(other)) => self.findings(request, &answer, &other).ok(),
                    _ => None,
                };
                confirmed = again.is_some();
                match again {
                    Some(again) if again.differences.is_empty() => return Outcome::Transient,
                    Some(again) => findings = again,
                    None => {}
                }
                pause = pause.max(CONFIRM_AFTER) * 2;
                if self.clock.monotonic().saturating_sub(since) + pause > self.confirm {
                    break;
                }
            }
        }
        self.reporter.differences(
            &self.rules,
            &request.copy.id,
            &route.template.name,
            confirmed,
            &findings.differences,
        );
        Outcome::Different { confirmed }
    }

    /// Compares, or says which side has no answer worth comparing: a Spring service that fails, and a side that refuses for load.
    fn findings(&self, request: &Request, answer: &Answer, other: &Answer) -> Result<Findings, Side> {
        let (spring, ours) = match request.serving.side {
            Side::Spring => (answer, other),
            Side::Ours => (other, answer),
        };
        if spring.status.is_server_error() || spring.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Side::Spring);
        }
        if ours.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Side::Ours);
        }
        let findings = compare(&self.rules, &request.matched.route.template.name, spring, ours);
        for pair in &findings.pairs {
            self.pairs.remember(pair);
        }
        Ok(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(before: &Before) -> Vec<bool> {
        before.0.iter().map(|done| !done.is_cancelled()).collect()
    }

    #[tokio::test]
    async fn a_request_waits_for_those_that_were_answered_before_it_came() {
        let order = Arc::new(Order::default());
        let (sign_in, save) = (order.step(), order.step());
        assert_eq!(waits(&order.before()), [false; 0], "neither is answered");
        sign_in.mark().answered();
        let like = order.before();
        save.mark().answered();
        assert_eq!(waits(&like), [true], "the sign-in, and not what was answered later");
        assert_eq!(waits(&order.before()), [true, true]);
        let mark = sign_in.mark();
        drop(sign_in);
        mark.answered();
        like.done(Duration::from_hours(1)).await;
        assert_eq!(waits(&order.before()), [true], "one that has ended is not waited for");
        drop(save);
        assert_eq!(waits(&order.before()), [false; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_sent_out_of_order_after_a_while() {
        let order = Arc::new(Order::default());
        let step = order.step();
        step.mark().answered();
        order.before().done(Duration::from_secs(5)).await;
        assert_eq!(waits(&order.before()), [true]);
    }
}
