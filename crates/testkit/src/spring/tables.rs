//! The tables and collections of the legacy Spring services, as these create them on MySQL and MongoDB.

use sqlx::{AssertSqlSafe, MySqlPool};

/// The table of auth.
pub const AUTH: &[&str] = &["CREATE TABLE IF NOT EXISTS user (
        user_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        apple_refresh_token VARCHAR(255),
        device_token VARCHAR(255),
        email VARCHAR(255),
        introduction VARCHAR(255),
        nickname VARCHAR(255),
        profile_img MEDIUMBLOB,
        provider VARCHAR(255),
        provider_id VARCHAR(255),
        refresh_token VARCHAR(255)
    ) ENGINE = InnoDB"];

/// The tables of feed.
pub const FEED: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS feed (
        feed_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        date BIGINT,
        happiness INT,
        is_public BIT(1),
        nickname VARCHAR(255),
        text MEDIUMTEXT,
        weather VARCHAR(255)
    ) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS feed_category (
        feed_category_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        category VARCHAR(255),
        feed_id BIGINT,
        CONSTRAINT category_of_feed FOREIGN KEY (feed_id) REFERENCES feed (feed_id)
    ) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS feed_image (
        feed_image_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        image MEDIUMBLOB,
        feed_id BIGINT,
        CONSTRAINT image_of_feed FOREIGN KEY (feed_id) REFERENCES feed (feed_id)
    ) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS feed_like_nickname (
        feed_like_nickname_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        nickname VARCHAR(255),
        feed_id BIGINT,
        CONSTRAINT like_of_feed FOREIGN KEY (feed_id) REFERENCES feed (feed_id)
    ) ENGINE = InnoDB",
];

/// The collection of dm. Its only index is `_id`.
pub const MESSAGES: &str = "message";

/// The value of `_class` in a message.
pub const MESSAGE_CLASS: &str = "com.happiness.dmservice.domain.Message";

/// Opens a database. Creates it and these tables if they are missing.
pub async fn open(url: &str, tables: &[&'static str]) -> Result<MySqlPool, sqlx::Error> {
    if let Some((server, name)) = url.split('?').next().and_then(|url| url.rsplit_once('/')) {
        let pool = MySqlPool::connect(server).await?;
        let create = format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&pool).await?;
        pool.close().await;
    }
    let pool = MySqlPool::connect(url).await?;
    for table in tables {
        sqlx::raw_sql(*table).execute(&pool).await?;
    }
    Ok(pool)
}
