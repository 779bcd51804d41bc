//! Every URL of the auth service.

mod account;
mod block;
mod connections;
mod email;
mod fleet;
mod follow;
mod identity;
mod moderation;
mod muted_words;
mod notification;
mod profile;
mod resignations;
mod role;
mod session;
mod system_notice;

use std::sync::Arc;

use sosohappy_access::protect;
use sosohappy_common::http::{Class, credential};
use sosohappy_common::settings::Credentials;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::authenticate::identity;

pub fn routes(app: Arc<App>, credentials: &Credentials) -> OpenApiRouter {
    let open = OpenApiRouter::new()
        .routes(routes!(session::get_authorize_code))
        .routes(Class::SignIn.of(routes!(session::sign_in)))
        .routes(routes!(session::reissue_token))
        .routes(Class::SignIn.of(routes!(email::request_email_code)))
        .routes(Class::SignIn.of(routes!(email::sign_up)))
        .routes(Class::SignIn.of(routes!(email::reset_password)))
        .routes(routes!(notification::receive_apple))
        .routes(routes!(notification::receive_kakao_unlink))
        .routes(routes!(notification::receive_kakao_status))
        .routes(Class::Read.of(routes!(moderation::show_contact)));
    let closed = OpenApiRouter::new()
        .routes(routes!(session::sign_out))
        .routes(Class::Read.of(routes!(session::list_sessions)))
        .routes(routes!(session::close_session))
        .routes(Class::Read.of(routes!(identity::list_identities)))
        .routes(routes!(identity::link_identity))
        .routes(routes!(identity::unlink_identity))
        .routes(routes!(email::change_password))
        .routes(routes!(profile::check_duplicate_nickname))
        .routes(Class::Upload.of(routes!(profile::set_profile)))
        .routes(Class::Read.of(routes!(profile::find_profile_img)))
        .routes(Class::Read.of(routes!(profile::show_profile_img)))
        .routes(Class::Read.of(routes!(profile::find_introduction)))
        .routes(routes!(account::resign))
        .routes(routes!(block::block))
        .routes(routes!(block::unblock))
        .routes(Class::Read.of(routes!(block::list_blocks)))
        .routes(routes!(follow::follow))
        .routes(routes!(follow::unfollow))
        .routes(Class::Read.of(routes!(follow::find_following)))
        .routes(Class::Read.of(routes!(follow::find_follower)))
        .routes(Class::Read.of(routes!(muted_words::list_muted_words)))
        .routes(routes!(muted_words::set_muted_words))
        .routes(Class::Read.of(routes!(resignations::list_resignations)))
        .routes(routes!(moderation::report))
        .routes(Class::Read.of(routes!(moderation::list_reports)))
        .routes(routes!(moderation::resolve_report))
        .routes(routes!(moderation::suspend))
        .routes(routes!(moderation::restore))
        .routes(Class::Read.of(routes!(moderation::list_audit)))
        .routes(routes!(role::apply_role))
        .routes(Class::Read.of(routes!(role::list_role_applications)))
        .routes(routes!(role::decide_role));
    let fleet = OpenApiRouter::new()
        .routes(routes!(fleet::introspect))
        .routes(routes!(fleet::lookup))
        .routes(routes!(fleet::muted_words_of));
    let operators = OpenApiRouter::new()
        .routes(routes!(role::grant_role))
        .routes(routes!(system_notice::send_system_notice))
        .routes(routes!(connections::open_connection_log))
        .routes(routes!(resignations::show_resignations));

    let all = open
        .merge(protect(closed, identity(&app)))
        .merge(credential::close(fleet, credentials.service_token.clone()))
        .merge(credential::close_to_operators(
            operators,
            credentials.operator_token.clone(),
        ));
    OpenApiRouter::new().nest("/auth-service", all).with_state(app)
}
