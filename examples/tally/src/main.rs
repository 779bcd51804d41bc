use std::process::ExitCode;

use sosohappy_common::run::{Program, run};
use sosohappy_common::settings::Live;
use sosohappy_tally::{DEFAULTS, SERVICE, Settings, build};

fn main() -> ExitCode {
    let program = Program {
        service: SERVICE,
        name: "tally",
        defaults: DEFAULTS,
    };
    run(program, async |settings: Live<Settings>, context| {
        let current = settings.get();
        let bus = sosohappy_bus::open_in_fleet(&current.events, &current.fleet, &context).await?;
        anyhow::Ok(build(&settings, context, bus))
    })
}
