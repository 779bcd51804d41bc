//! Every URL of the config service.

mod bus;
mod convergence;
mod encryption;
mod environment;
pub mod etag;
mod monitor;
mod versions;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;

pub fn routes(app: App) -> OpenApiRouter {
    let routes = OpenApiRouter::new()
        .routes(routes!(convergence::show::show_convergence))
        .routes(routes!(environment::flat::show_flat))
        .routes(routes!(environment::show::show_environment))
        .routes(routes!(environment::show::show_environment_at_label))
        .routes(routes!(environment::file::show_file))
        .routes(routes!(encryption::encrypt::encrypt))
        .routes(routes!(encryption::encrypt::encrypt_for))
        .routes(routes!(encryption::decrypt::decrypt))
        .routes(routes!(encryption::decrypt::decrypt_for))
        .routes(routes!(encryption::key::show_key))
        .routes(routes!(encryption::key::show_key_for))
        .routes(routes!(encryption::status::show_status))
        .routes(routes!(monitor::monitor))
        .routes(routes!(versions::status::show_status))
        .routes(routes!(versions::history::show_history))
        .routes(routes!(versions::audit::show_audit))
        .routes(routes!(versions::diff::show_diff));
    OpenApiRouter::new()
        .nest("/config-service", routes)
        .routes(routes!(bus::refresh::refresh_all))
        .routes(routes!(bus::refresh::refresh_some))
        .routes(routes!(bus::env::set_for_all))
        .routes(routes!(bus::env::set_for_some))
        .with_state(app)
}
