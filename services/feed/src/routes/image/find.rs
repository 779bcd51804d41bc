use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::header;
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::Problem;
use sosohappy_media::{Chunks, ImageError, ImageId};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindFeedImage {
    image_id: i64,
}

impl Actor for FindFeedImage {
    fn acting(&self) -> Acting<'_> {
        Acting::Caller
    }
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is written as a stream; this is what it looks like")]
pub struct FeedImage {
    /// Base64.
    image: String,
}

/// A picture as text.
#[utoipa::path(
    post,
    path = "/findFeedImage",
    tag = "image",
    request_body = FindFeedImage,
    responses((status = 200, body = FeedImage), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn find_feed_image(
    State(app): State<App>,
    Act { params, .. }: Act<FindFeedImage>,
) -> Result<Response, Error> {
    let picture = app.images.find(ImageId(params.image_id)).await?;
    let picture = picture.ok_or(Error::NoSuchImage)?.stream().await?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, Body::from_stream(as_json(picture.chunks))).into_response())
}

/// The JSON around a picture's Base64, which needs no escapes, as it comes: a picture is never in memory as a whole.
fn as_json(chunks: Chunks) -> impl Stream<Item = Result<Bytes, ImageError>> + Send {
    let begin = stream::iter([Ok(Bytes::from_static(br#"{"image":""#))]);
    // Three bytes are four letters: what is over waits for the next chunk.
    let letters = chunks
        .map(Some)
        .chain(stream::iter([None]))
        .scan(Vec::new(), |over: &mut Vec<u8>, chunk| {
            let letters = match chunk {
                Some(Ok(chunk)) => {
                    over.extend_from_slice(&chunk);
                    let whole = over.len() - over.len() % 3;
                    Ok(STANDARD.encode(over.drain(..whole).as_slice()).into())
                }
                Some(Err(error)) => Err(error),
                None => Ok((STANDARD.encode(&over) + r#""}"#).into()),
            };
            std::future::ready(Some(letters))
        });
    begin.chain(letters)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn base64_comes_out_whole_however_the_chunks_fall() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for size in [1, 2, 3, 4, 7, 999, 1000] {
            let chunks: Vec<_> = bytes
                .chunks(size)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
                .collect();
            let written: Vec<Bytes> = as_json(stream::iter(chunks).boxed()).try_collect().await.unwrap();
            let expected = format!(r#"{{"image":"{}"}}"#, STANDARD.encode(&bytes));
            assert_eq!(written.concat(), expected.as_bytes(), "chunks of {size}");
        }
        let nothing: Vec<Bytes> = as_json(stream::iter([]).boxed()).try_collect().await.unwrap();
        assert_eq!(nothing.concat(), br#"{"image":""}"#);
    }
}
