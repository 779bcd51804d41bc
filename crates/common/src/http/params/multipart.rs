//! Multipart bodies: texts and files apart.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use multer::{Field, Multipart};

use super::File;
use super::fields::{Fields, check_count, check_name, split_index};
use super::read::{FileParts, TEXT_LIMIT};
use crate::http::Problem;
use crate::http::intake::{Share, read_failed, too_large};

/// Reads all parts. Texts together are bounded by [`TEXT_LIMIT`], everything by the body's own guard; what is kept counts against
/// the share as it arrives.
pub(super) async fn read(
    body: Body,
    boundary: String,
    limit: usize,
    keep: FileParts,
    share: &mut Share,
) -> Result<(Fields, Vec<File>), Problem> {
    let mut parts = Multipart::new(body.into_data_stream(), boundary);
    let mut fields = Fields::default();
    let mut files: Vec<(Option<u32>, File)> = Vec::new();
    let mut texts_left = TEXT_LIMIT;
    let mut count = 0;
    while let Some(mut part) = parts.next_field().await.map_err(|error| failed(&error, limit))? {
        count += 1;
        check_count(count)?;
        let name = part
            .name()
            .ok_or_else(|| Problem::invalid_parameter("a part has no name"))?
            .to_owned();
        check_name(&name)?;
        if !is_file(&part) {
            let bytes = collect(&mut part, limit, share, Some(&mut texts_left)).await?;
            let text = String::from_utf8(bytes.into());
            let text = text.map_err(|_| Problem::invalid_parameter(format!("{name}: not valid UTF-8")))?;
            fields.add(&name, text)?;
        } else if keep == FileParts::Kept {
            let unnamed = part.file_name().is_some_and(str::is_empty);
            let bytes = collect(&mut part, limit, share, None).await?;
            // A browser sends an empty part for a file input nobody has filled.
            if !(unnamed && bytes.is_empty()) {
                let (field, index) = split_index(&name);
                files.push((
                    index,
                    File {
                        field: field.to_owned(),
                        bytes,
                    },
                ));
            }
        } else {
            while part.chunk().await.map_err(|error| failed(&error, limit))?.is_some() {}
        }
    }
    // Stable: those without an index keep the order they came in.
    files.sort_by_key(|(index, _)| index.unwrap_or(u32::MAX));
    Ok((fields, files.into_iter().map(|(_, file)| file).collect()))
}

fn is_file(part: &Field<'_>) -> bool {
    let binary = part.content_type().is_some_and(|kind| {
        kind.type_() == "image" || kind.type_() == "video" || kind.essence_str() == "application/octet-stream"
    });
    part.file_name().is_some() || binary
}

async fn collect(
    part: &mut Field<'_>,
    limit: usize,
    share: &mut Share,
    mut left: Option<&mut usize>,
) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| failed(&error, limit))? {
        if let Some(left) = left.as_deref_mut() {
            *left = left.checked_sub(chunk.len()).ok_or_else(|| too_large(TEXT_LIMIT))?;
        }
        share.add(chunk.len()).await?;
        // Copied on purpose: a chunk is a window into a buffer that holds much more.
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn failed(error: &multer::Error, limit: usize) -> Problem {
    read_failed(error, limit)
}
