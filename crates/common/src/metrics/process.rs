use std::sync::LazyLock;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// About when the process began: the first registry is made at start.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What Micrometer tells of a process and its machine; measured when asked, over the time since the last
/// question.
#[derive(Debug)]
pub(super) struct Process {
    system: Mutex<System>,
    uptime: Gauge,
    own_cpu: Gauge,
    all_cpu: Gauge,
    cpus: Gauge,
    open_files: Gauge,
    max_files: Gauge,
}

impl Process {
    pub(super) fn new() -> Self {
        let gauge = |name, help| Gauge::with_opts(Opts::new(name, help)).expect("names are valid");
        LazyLock::force(&BEGAN);
        Self {
            system: Mutex::new(System::new()),
            uptime: gauge("process_uptime_seconds", "Age of the process"),
            own_cpu: gauge(
                "process_cpu_usage",
                "Share of all processors this process has used, 0 to 1",
            ),
            all_cpu: gauge(
                "system_cpu_usage",
                "Share of all processors the machine has used, 0 to 1",
            ),
            cpus: gauge("system_cpu_count", "Processors the process may use"),
            open_files: gauge("process_files_open_files", "Open file descriptors"),
            max_files: gauge("process_files_max_files", "Open file descriptors the process may have"),
        }
    }

    fn gauges(&self) -> [&Gauge; 6] {
        [
            &self.uptime,
            &self.own_cpu,
            &self.all_cpu,
            &self.cpus,
            &self.open_files,
            &self.max_files,
        ]
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floats; counts of files and processors are small"
    )]
    fn measure(&self) {
        self.uptime.set(BEGAN.elapsed().as_secs_f64());
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        self.cpus.set(cpus);

        let mut system = self.system.lock();
        system.refresh_cpu_usage();
        self.all_cpu.set(f64::from(system.global_cpu_usage()) / 100.0);
        let pid = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        if let Some(process) = system.process(pid) {
            self.own_cpu
                .set((f64::from(process.cpu_usage()) / 100.0 / cpus).min(1.0));
        }

        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as f64);
        }
        if let Some(most) = max_files() {
            self.max_files.set(most as f64);
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.measure();
        self.gauges().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Returns how many files the process may have open; `None` where the system does not tell.
pub(crate) fn max_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
