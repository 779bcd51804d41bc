//! Every URL of the config service.

mod encryption;
mod environment;
pub mod etag;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;

pub fn routes(app: App) -> OpenApiRouter {
    let routes = OpenApiRouter::new()
        .routes(routes!(environment::flat::show_flat))
        .routes(routes!(environment::show::show_environment))
        .routes(routes!(environment::show::show_environment_at_label))
        .routes(routes!(environment::file::show_file))
        .routes(routes!(encryption::encrypt::encrypt))
        .routes(routes!(encryption::encrypt::encrypt_for))
        .routes(routes!(encryption::decrypt::decrypt))
        .routes(routes!(encryption::decrypt::decrypt_for))
        .routes(routes!(encryption::status::show_status));
    OpenApiRouter::new().nest("/config-service", routes).with_state(app)
}
