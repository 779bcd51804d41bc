//! Every URL of the notice service.

mod connect;
mod device;
mod inbox;
mod preference;

use sosohappy_access::{Identity, protect};
use sosohappy_common::http::Class;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn routes(app: App, identity: Identity) -> OpenApiRouter {
    let closed = OpenApiRouter::new()
        .routes(Class::Connect.of(routes!(connect::connect_notice)))
        .routes(Class::Write.of(routes!(device::register_device)))
        .routes(Class::Read.of(routes!(device::list_devices)))
        .routes(Class::Write.of(routes!(device::remove_device)))
        .routes(Class::Read.of(routes!(preference::get_preferences)))
        .routes(Class::Write.of(routes!(preference::set_preferences)))
        .routes(Class::Read.of(routes!(inbox::find_notice)))
        .routes(Class::Read.of(routes!(inbox::handled_notice)))
        .routes(Class::Read.of(routes!(inbox::unread_count)))
        .routes(Class::Write.of(routes!(inbox::read_notice)));
    OpenApiRouter::new()
        .nest("/notice-service", protect(closed, identity))
        .with_state(app)
}
