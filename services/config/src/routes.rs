//! Every URL of the config service.

mod convergence;
mod encryption;
mod environment;

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
        .routes(routes!(encryption::decrypt::decrypt))
        .routes(routes!(encryption::status::show_status));
    OpenApiRouter::new().nest("/config-service", routes).with_state(app)
}
