use std::sync::LazyLock;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

/// About when the process began: the first registry is made at start.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Processor times since the machine and the process began, in ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    own: u64,
    /// Sum of all processors.
    busy: u64,
    idle: u64,
    processors: usize,
}

impl Times {
    #[cfg(target_os = "linux")]
    fn read() -> procfs::ProcResult<Self> {
        use procfs::process::Process as OwnProcess;
        use procfs::{CpuTime, CurrentSI as _, KernelStats};

        let own = OwnProcess::myself()?.stat()?;
        let machine = KernelStats::current()?;
        let CpuTime {
            user,
            nice,
            system,
            idle,
            iowait,
            irq,
            softirq,
            steal,
            ..
        } = machine.total;
        let interrupts = irq.unwrap_or(0) + softirq.unwrap_or(0) + steal.unwrap_or(0);
        Ok(Self {
            own: own.utime + own.stime,
            busy: user + nice + system + interrupts,
            idle: idle + iowait.unwrap_or(0),
            processors: machine.cpu_time.len(),
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Micrometer's metrics of a process and its machine; measured at each scrape, over the time since the one before.
#[derive(Debug)]
pub(super) struct Process {
    /// The ticks at the last scrape.
    times: Mutex<Times>,
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
            times: Mutex::default(),
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

        // Linux only, and not readable in some sandboxes: the gauges keep their values then.
        if let Ok(times) = Times::read() {
            let before = std::mem::replace(&mut *self.times.lock(), times);
            let all = (times.busy + times.idle).saturating_sub(before.busy + before.idle) as f64;
            if all > 0.0 {
                self.all_cpu.set(times.busy.saturating_sub(before.busy) as f64 / all);
                // A share of the processors that this process may use, which can be fewer than the machine has.
                let share = times.own.saturating_sub(before.own) as f64 / all * times.processors as f64;
                self.own_cpu.set((share / cpus).min(1.0));
            }
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

/// Returns the resident memory of the process in bytes; `None` where the system does not report it.
pub(crate) fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns how many files the process may have open; `None` where the system does not report it.
pub(crate) fn max_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
