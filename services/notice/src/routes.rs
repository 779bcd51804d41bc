//! Every URL of the notice service.

mod connect;

use sosohappy_access::{Identity, protect};
use sosohappy_common::http::Class;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn routes(app: App, identity: Identity) -> OpenApiRouter {
    let closed = OpenApiRouter::new().routes(Class::Connect.of(routes!(connect::connect_notice)));
    OpenApiRouter::new()
        .nest("/notice-service", protect(closed, identity))
        .with_state(app)
}
