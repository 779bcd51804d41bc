use std::process::ExitCode;

use sosohappy_common::run::{Program, run};
use sosohappy_common::settings::Live;
use sosohappy_config::{DEFAULTS, SERVICE, Settings, build, check};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "check") {
        return check::run(name.into_iter().chain(arguments.skip(1)));
    }
    let program = Program {
        service: SERVICE,
        name: "config",
        defaults: DEFAULTS,
    };
    run(program, async |settings: Live<Settings>, context| {
        let current = settings.get();
        let bus = sosohappy_bus::open_in_fleet(&current.events, &current.fleet, &context).await?;
        build(settings, context, bus).await
    })
}
