//! Reading the legacy databases: rows are read with any value in their columns.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sosohappy_common::text::to_portable;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _};

/// Connections to one legacy database: it serves meanwhile.
const CONNECTIONS: u32 = 4;

/// How long to wait for a connection.
const ACQUIRE: Duration = Duration::from_secs(30);

/// Bytes of a picture that are read at once: a packet of the server is at least 16 MiB by default, and may be set lower.
const CHUNK: u64 = 1 << 20;

/// Pictures that are read at the same time.
const PICTURES: usize = 4;

/// Opens a legacy database.
pub async fn open(option: &str, url: &str) -> anyhow::Result<MySqlPool> {
    sosohappy_common::tls::install_provider();
    let opened = MySqlPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .connect(url)
        .await;
    // The driver's words about a URL may hold what is in it.
    opened.map_err(|error| match error {
        sqlx::Error::Configuration(_) => {
            anyhow::anyhow!("{option}: mysql://user:password@host:port/database is expected")
        }
        error => anyhow::Error::new(error).context(format!("{option}: the database does not open")),
    })
}

/// Returns the greatest id of a table, up to which a pass reads: on a busy service it would otherwise follow new rows without end. An empty
/// table has none, and a lesser id than any is returned.
pub async fn newest(pool: &MySqlPool, table: &'static str, id: &'static str) -> anyhow::Result<i64> {
    let newest = format!("SELECT CAST(MAX({id}) AS SIGNED) FROM `{table}`");
    let newest: Option<i64> = sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(pool).await?;
    Ok(newest.unwrap_or(i64::MIN))
}

/// A text that may be missing, and whether its bytes had to be repaired.
#[derive(Debug, Clone, Default)]
pub struct Text {
    pub text: Option<String>,
    pub repaired: bool,
}

/// Reads a text of any character set or a binary column. Bytes that are no text, and U+0000, which no text of this fleet has, become U+FFFD.
pub fn text(row: &MySqlRow, column: &str) -> anyhow::Result<Text> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(column).with_context(|| column.to_owned())?;
    Ok(bytes.map_or_else(Text::default, |bytes| {
        let text = to_portable(&String::from_utf8_lossy(&bytes));
        Text {
            repaired: text.as_bytes() != bytes,
            text: Some(text),
        }
    }))
}

/// Reads an integer that may be missing.
pub fn integer(row: &MySqlRow, column: &str) -> anyhow::Result<Option<i64>> {
    row.try_get_unchecked(column).with_context(|| column.to_owned())
}

/// Reads a SHA-256 that the server has made.
pub fn digest(row: &MySqlRow, column: &str) -> anyhow::Result<Option<[u8; 32]>> {
    let text = text(row, column)?.text;
    let digest = |text: String| {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).context("a digest is not one")?;
        Ok(digest)
    };
    text.map(digest).transpose()
}

/// Where pictures are: table, column of the id, column of the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Pictures {
    pub table: &'static str,
    pub id: &'static str,
    pub image: &'static str,
}

impl Pictures {
    /// Reads pictures by id, given the size of each in bytes. One that is gone or was changed meanwhile is not among them.
    pub async fn read(self, pool: &MySqlPool, wanted: &[(i64, u64)]) -> anyhow::Result<HashMap<i64, Bytes>> {
        let (large, small): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(|(_, size)| *size > CHUNK);
        // Several small ones with one statement, as many as fit.
        let mut groups: Vec<Vec<i64>> = Vec::new();
        let mut room = 0;
        for (id, size) in small {
            if room < size || groups.is_empty() {
                groups.push(Vec::new());
                room = CHUNK;
            }
            groups.last_mut().expect("just made").push(id);
            room -= size;
        }
        let several = stream::iter(groups).map(|ids| self.read_several(pool, ids));
        let mut read: HashMap<i64, Bytes> = several
            .buffer_unordered(PICTURES)
            .map_ok(|several| stream::iter(several).map(Ok::<_, anyhow::Error>))
            .try_flatten()
            .try_collect()
            .await?;
        for (id, size) in large {
            if let Some(bytes) = self.read_large(pool, id, size).await? {
                read.insert(id, bytes);
            }
        }
        Ok(read)
    }

    /// Reads one picture. None if it is gone.
    pub async fn read_one(self, pool: &MySqlPool, picture: i64) -> anyhow::Result<Option<Bytes>> {
        let Self { table, id, image } = self;
        let size = format!("SELECT CAST(OCTET_LENGTH({image}) AS SIGNED) FROM `{table}` WHERE {id} = ?");
        let size: Option<Option<i64>> = sqlx::query_scalar(AssertSqlSafe(size))
            .bind(picture)
            .fetch_optional(pool)
            .await?;
        let Some(size) = size.flatten() else { return Ok(None) };
        Ok(self
            .read(pool, &[(picture, size.unsigned_abs())])
            .await?
            .remove(&picture))
    }

    async fn read_several(self, pool: &MySqlPool, ids: Vec<i64>) -> anyhow::Result<Vec<(i64, Bytes)>> {
        let Self { table, id, image } = self;
        let mut query =
            QueryBuilder::<sqlx::MySql>::new(format!("SELECT {id}, {image} FROM `{table}` WHERE {id} IN ("));
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id);
        }
        query.push(")");
        let rows = query.build().fetch_all(pool).await?;
        let pictures = rows.iter().map(|row| {
            let bytes: Option<Vec<u8>> = row.try_get_unchecked(1)?;
            Ok((row.try_get_unchecked(0)?, bytes.unwrap_or_default().into()))
        });
        pictures.collect()
    }

    /// In pieces, however large a packet of the server may be.
    async fn read_large(self, pool: &MySqlPool, picture: i64, size: u64) -> anyhow::Result<Option<Bytes>> {
        let Self { table, id, image } = self;
        let statement = format!("SELECT SUBSTRING({image}, ?, ?) FROM `{table}` WHERE {id} = ?");
        let mut bytes = BytesMut::with_capacity(usize::try_from(size)?);
        while (bytes.len() as u64) < size {
            let piece: Option<Option<Vec<u8>>> = sqlx::query_scalar(AssertSqlSafe(statement.as_str()))
                .bind(bytes.len() as u64 + 1)
                .bind(CHUNK)
                .bind(picture)
                .fetch_optional(pool)
                .await?;
            match piece.flatten() {
                Some(piece) if !piece.is_empty() => bytes.extend_from_slice(&piece),
                _ => return Ok(None),
            }
        }
        Ok(Some(bytes.freeze()))
    }
}
