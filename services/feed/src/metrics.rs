//! The metrics of feed beside requests.

use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use sosohappy_bus::delivery::{DeliveryTimes, Hop};
use sosohappy_common::metrics::Metrics;

#[derive(Debug, Clone)]
pub struct FeedMetrics {
    pub posts_saved: IntCounter,
    pub comments_saved: IntCounter,
    pub images_stored: IntCounter,
    pub images_deleted: IntCounter,
    pub renewals_contended: IntCounter,
    pub held_waiting: IntGauge,
    pub held_late: IntGauge,
    likes: IntCounterVec,
    delivery: DeliveryTimes,
}

impl FeedMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str| {
            metrics.register(IntCounter::new(name, help).expect("a static metric name is valid"))
        };
        let gauge = |name: &str, help: &str| {
            metrics.register(IntGauge::new(name, help).expect("a static metric name is valid"))
        };
        let likes = Opts::new(
            "feed_likes_total",
            "Likes that were given (change=\"like\") or taken back (change=\"unlike\")",
        );
        let likes = metrics.register(IntCounterVec::new(likes, &["change"]).expect("static label names are valid"));
        // Pre-creates both label values so that the series start at 0.
        for change in ["like", "unlike"] {
            likes.with_label_values(&[change]);
        }
        Self {
            posts_saved: counter(
                "feed_posts_saved_total",
                "Posts that were saved, new ones and replaced ones",
            ),
            comments_saved: counter("feed_comments_saved_total", "Comments that were saved"),
            images_stored: counter("feed_images_stored_total", "Pictures stored with posts"),
            images_deleted: counter(
                "feed_images_deleted_total",
                "Pictures of deleted, replaced or failed posts that were deleted",
            ),
            renewals_contended: counter(
                "feed_image_renewals_contended_total",
                "Posts whose pictures were to get new ids and were written to at each try; they are tried again",
            ),
            held_waiting: gauge(
                "feed_held_waiting",
                "Posts and comments that a word of review.words holds and no moderator has decided about",
            ),
            held_late: gauge(
                "feed_held_late",
                "Held posts and comments whose deadline (review.deadline) has passed",
            ),
            likes,
            delivery: DeliveryTimes::of(metrics),
        }
    }

    /// Counts a like that was given or taken back by a call of that moment. The notice of a like begins its way with it.
    pub fn toggled_like(&self, liked: bool, called_at: Timestamp, now: Timestamp) {
        if liked {
            self.delivery.reached(Hop::Committed, called_at, now);
        }
        self.likes
            .with_label_values(&[if liked { "like" } else { "unlike" }])
            .inc();
    }
}
