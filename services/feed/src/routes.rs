//! Every URL of the feed service.

mod bookmark;
mod comment;
mod conditional;
mod draft;
mod happiness;
mod held;
mod history;
mod image;
mod like;
mod others;
mod params;
mod post;
mod reported;
mod transfer;
mod view;

use sosohappy_access::{Identity, protect};
use sosohappy_common::http::Class;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn routes(app: App, identity: Identity) -> OpenApiRouter {
    let closed = OpenApiRouter::new()
        .routes(Class::Upload.of(routes!(post::save_feed)))
        .routes(Class::Read.of(routes!(post::find_day_feed)))
        .routes(Class::Read.of(routes!(post::find_month_feed)))
        .routes(routes!(post::update_public_status))
        .routes(routes!(post::delete_feed))
        .routes(routes!(history::find_feed_history))
        .routes(routes!(draft::save_draft))
        .routes(routes!(draft::find_draft))
        .routes(routes!(draft::delete_draft))
        .routes(routes!(others::find_other_feed))
        .routes(routes!(others::find_user_feed))
        .routes(routes!(others::find_friend_feed))
        .routes(Class::Read.of(routes!(others::find_detail_feed)))
        .routes(routes!(like::update_like))
        .routes(routes!(view::find_feed_view))
        .routes(routes!(view::find_feed_views))
        .routes(routes!(bookmark::update_bookmark))
        .routes(routes!(bookmark::find_bookmark))
        .routes(routes!(comment::save_comment))
        .routes(routes!(comment::find_comment))
        .routes(routes!(comment::delete_comment))
        .routes(routes!(comment::update_feed_comment))
        .routes(Class::Read.of(routes!(image::find_feed_image)))
        .routes(Class::Read.of(routes!(happiness::analysis_happiness)))
        .routes(Class::Read.of(routes!(happiness::find_month_happiness)))
        .routes(Class::Read.of(routes!(happiness::find_year_happiness)))
        .routes(routes!(happiness::year_review))
        .routes(routes!(happiness::find_streak))
        .routes(routes!(transfer::export_feed))
        .routes(Class::Upload.of(routes!(transfer::import_feed)))
        .routes(Class::Read.of(routes!(reported::find_reported_content)))
        .routes(routes!(held::find_held_feed))
        .routes(routes!(held::find_held_comment))
        .routes(routes!(held::decide_held_feed))
        .routes(routes!(held::decide_held_comment));
    let open = OpenApiRouter::new().routes(Class::Read.of(routes!(image::show_image)));
    OpenApiRouter::new()
        .nest("/feed-service", protect(closed, identity).merge(open))
        .with_state(app)
}
