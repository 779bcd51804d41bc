//! Every URL of the config service.

mod bus;
mod convergence;
mod encryption;
mod environment;
pub mod etag;
pub mod flags;
mod monitor;
mod versions;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;

pub fn routes(app: App) -> OpenApiRouter {
    let routes = OpenApiRouter::new()
        .routes(routes!(convergence::show_convergence))
        .routes(routes!(environment::show_flat))
        .routes(routes!(environment::show_environment))
        .routes(routes!(environment::show_environment_at_label))
        .routes(routes!(environment::show_file))
        .routes(routes!(encryption::encrypt))
        .routes(routes!(encryption::encrypt_for))
        .routes(routes!(encryption::decrypt))
        .routes(routes!(encryption::decrypt_for))
        .routes(routes!(encryption::show_key))
        .routes(routes!(encryption::show_key_for))
        .routes(routes!(encryption::show_status))
        .routes(routes!(flags::show_flags))
        .routes(routes!(monitor::monitor))
        .routes(routes!(versions::show_status))
        .routes(routes!(versions::show_history))
        .routes(routes!(versions::show_audit))
        .routes(routes!(versions::show_diff));
    OpenApiRouter::new()
        .nest("/config-service", routes)
        .routes(routes!(bus::refresh_all, bus::stop_canary))
        .routes(routes!(bus::refresh_some))
        .routes(routes!(bus::set_for_all, bus::unset_for_all))
        .routes(routes!(bus::set_for_some, bus::unset_for_some))
        .routes(routes!(flags::evaluate_flag))
        .routes(routes!(flags::evaluate_flags))
        .with_state(app)
}
