//! Every URL of the dm service.

mod change;
mod connect;
mod export;
mod message;
mod page;
mod receipt;
mod reported;
mod request;
mod room;
mod schedule;
mod search;
mod sent;

use sosohappy_access::{Identity, protect};
use sosohappy_common::http::Class;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn routes(app: App, identity: Identity) -> OpenApiRouter {
    let closed = OpenApiRouter::new()
        .routes(Class::Connect.of(routes!(connect::connect_dm)))
        .routes(Class::Read.of(routes!(message::find_direct_message)))
        .routes(Class::Read.of(routes!(message::find_multiple_direct_message)))
        .routes(Class::Read.of(routes!(search::search_messages)))
        .routes(Class::Read.of(routes!(export::export)))
        .routes(Class::Read.of(routes!(sent::my_messages)))
        .routes(Class::Write.of(routes!(schedule::schedule_message)))
        .routes(Class::Read.of(routes!(schedule::scheduled)))
        .routes(Class::Write.of(routes!(schedule::edit_scheduled)))
        .routes(Class::Write.of(routes!(change::cancel_message)))
        .routes(Class::Write.of(routes!(change::edit_message)))
        .routes(Class::Write.of(routes!(change::react_message)))
        .routes(Class::Read.of(routes!(change::find_message_history)))
        .routes(Class::Read.of(routes!(request::find_request)))
        .routes(Class::Write.of(routes!(request::accept_request)))
        .routes(Class::Write.of(routes!(request::refuse_request)))
        .routes(Class::Write.of(routes!(room::create_room)))
        .routes(Class::Write.of(routes!(room::invite_room)))
        .routes(Class::Write.of(routes!(room::leave_room)))
        .routes(Class::Read.of(routes!(room::rooms)))
        .routes(Class::Read.of(routes!(room::find_room_message)))
        .routes(Class::Write.of(routes!(receipt::mark_read)))
        .routes(Class::Read.of(routes!(receipt::unread_count)))
        .routes(Class::Read.of(routes!(receipt::catch_up)))
        .routes(Class::Read.of(routes!(reported::find_reported_content)));
    OpenApiRouter::new()
        .nest("/dm-service", protect(closed, identity))
        .with_state(app)
}
