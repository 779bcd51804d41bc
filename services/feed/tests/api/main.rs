//! Feed from the outside, over HTTP and the topics.

mod access;
mod bookmarks;
mod comments;
mod consistency;
mod cost;
mod drafts;
mod forms;
mod friends;
mod happiness;
mod images;
mod likes;
mod limits;
mod moderation;
mod muted_words;
mod others;
mod outage;
mod posts;
mod repeats;
mod resign;
mod reviews;
mod transfer;
mod views;

use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use image::{ImageFormat, Rgb, RgbImage};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use sosohappy_bus::Bus;
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sosohappy_testkit::{Bed, PATIENCE, Person, Running};

/// The feed service of one test, and how to call it.
struct Feed {
    running: Running,
    client: Client,
}

/// Status and body of an answer.
type Answer = (StatusCode, String);

/// 1 × 1 pixels, as it is stored.
static PNG: LazyLock<&'static [u8]> = LazyLock::new(|| encoded(ImageFormat::Png, 1, 1).leak());

/// A grey picture.
fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(width, height, Rgb([90, 90, 90]))
        .write_to(&mut bytes, format)
        .expect("a picture can be encoded");
    bytes.into_inner()
}

impl Feed {
    async fn start(bed: &Bed) -> Self {
        Self::start_with(bed, &[]).await
    }

    async fn start_with(bed: &Bed, more: &[(&str, &str)]) -> Self {
        Self::serve_with(bed, more).await.ready().await
    }

    async fn ready(self) -> Self {
        let ready = self.running.context.lifecycle.ready();
        tokio::time::timeout(PATIENCE, ready).await.unwrap();
        self
    }

    /// Serves, ready or not.
    async fn serve_with(bed: &Bed, more: &[(&str, &str)]) -> Self {
        Self::serve_at(bed, bed.context.clock.clone(), more).await
    }

    async fn serve_at(bed: &Bed, clock: Arc<dyn Clock>, more: &[(&str, &str)]) -> Self {
        Self::serve_on(bed, bed.bus.clone(), clock, more).await
    }

    async fn serve_on(bed: &Bed, bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, more: &[(&str, &str)]) -> Self {
        let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, more).await;
        let context = Context {
            clock,
            ..bed.context(sosohappy_feed::SERVICE)
        };
        context.settings.attach(&settings);
        let service = sosohappy_feed::build(settings, context, bus).await;
        let running = Running::serve(service.unwrap()).await;
        Self {
            running,
            client: sosohappy_common::tls::client(),
        }
    }

    fn at(&self, call: &str) -> String {
        self.running.at(&format!("/feed-service/{call}"))
    }

    /// POSTs a form, as most tests do; that all forms are read alike is tested once.
    async fn post(&self, who: &Person, call: &str, params: &[(&str, &str)]) -> Answer {
        read(who.sign(self.client.post(self.at(call)).form(params))).await
    }

    async fn get(&self, who: &Person, call: &str, params: &[(&str, &str)]) -> Answer {
        read(who.sign(self.client.get(self.at(call)).query(params))).await
    }

    /// A public post of that day with one category.
    async fn save(&self, who: &Person, date: &str, happiness: &str, categories: &str) {
        let answer = read(who.sign(self.client.post(self.at("saveFeed")).form(&[
            ("nickname", who.nickname.as_str()),
            ("date", date),
            ("weather", "sunny"),
            ("happiness", happiness),
            ("categoryList", categories),
            ("text", date),
            ("isPublic", "true"),
        ])));
        assert_eq!(answer.await, saved());
    }

    /// Saves as the app does, with pictures.
    async fn save_with(&self, who: &Person, date: &str, pictures: &[&[u8]]) -> Answer {
        let mut form = Form::new()
            .text("nickname", who.nickname.clone())
            .text("date", date.to_owned())
            .text("weather", "partlyCloudy")
            .text("happiness", "5")
            .text("categoryList", "coffee,friends")
            .text("text", "오늘의 행복")
            .text("isPublic", "true");
        for (index, picture) in pictures.iter().enumerate() {
            let part = Part::bytes(picture.to_vec())
                .file_name("image.png")
                .mime_str("image/png")
                .unwrap();
            form = form.part(format!("imageList[{index}]"), part);
        }
        read(who.sign(self.client.post(self.at("saveFeed")).multipart(form))).await
    }

    /// Returns the people who like this person's post of the day.
    async fn likers(&self, who: &Person, date: &str) -> Vec<String> {
        let (status, body) = self
            .post(who, "findDayFeed", &[("nickname", &who.nickname), ("date", date)])
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let post: Value = serde_json::from_str(&body).unwrap();
        serde_json::from_value(post["likeNicknameList"].clone()).unwrap()
    }

    async fn like(&self, who: &Person, whose: &Person, date: &str) -> Answer {
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", &whose.nickname),
            ("date", date),
        ];
        self.post(who, "updateLike", &params).await
    }

    /// The dates of the posts this person sees of others.
    async fn sees(&self, who: &Person) -> Vec<i64> {
        let (status, body) = self.get(who, "findOtherFeed", &[("nickname", &who.nickname)]).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        dates(&body)
    }
}

fn dates(slice: &str) -> Vec<i64> {
    let slice: Value = serde_json::from_str(slice).unwrap();
    slice["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|post| post["date"].as_i64().unwrap())
        .collect()
}

async fn read(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("feed answers");
    (response.status(), response.text().await.expect("the body is text"))
}

fn saved() -> Answer {
    (StatusCode::OK, r#"{"success":true,"message":"등록 성공"}"#.to_owned())
}

/// The stable code of a problem.
fn code(answer: &Answer) -> (u16, String) {
    let problem: Value = serde_json::from_str(&answer.1).unwrap_or_else(|_| panic!("not a problem: {answer:?}"));
    (
        answer.0.as_u16(),
        problem["code"].as_str().expect("a problem has a code").to_owned(),
    )
}

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
