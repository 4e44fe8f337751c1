//! What the operating system and tokio say of the process, read at each scrape.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
    if let Ok(handle) = Handle::try_current() {
        registry.register_collector(Box::new(Tokio(handle)));
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

/// The `process_*` families, from `/proc`. A figure that can't be read is left out, so elsewhere than on Linux
/// there are none.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = std::fs::read_to_string("/proc/self/stat").ok();
        if let Some(seconds) = stat.as_deref().and_then(cpu_time) {
            let help = "Processor time that the process used";
            counter(&mut encoder, "process_cpu_seconds", help, seconds.as_secs_f64())?;
        }
        if let Some(start) = stat.as_deref().and_then(|stat| {
            let boot = boot_time(&std::fs::read_to_string("/proc/stat").ok()?)?;
            Some(boot + since_boot(stat)?.as_secs_f64())
        }) {
            let help = "When the process started, in seconds since 1970";
            gauge(&mut encoder, "process_start_time_seconds", help, start)?;
        }
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            if let Some(bytes) = kibibytes(&status, "VmRSS:") {
                gauge(
                    &mut encoder,
                    "process_resident_memory_bytes",
                    "Memory that the process holds",
                    bytes,
                )?;
            }
            if let Some(bytes) = kibibytes(&status, "VmSize:") {
                gauge(
                    &mut encoder,
                    "process_virtual_memory_bytes",
                    "Address space of the process",
                    bytes,
                )?;
            }
        }
        if let Some(open) = std::fs::read_dir("/proc/self/fd")
            .ok()
            .and_then(|files| count(files.count()))
        {
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open files of the process",
                open,
            )?;
        }
        if let Some(limit) = std::fs::read_to_string("/proc/self/limits")
            .ok()
            .as_deref()
            .and_then(max_files)
        {
            gauge(
                &mut encoder,
                "process_max_fds",
                "How many files the process may open",
                limit,
            )?;
        }
        Ok(())
    }
}

/// The length of a tick in `/proc`. The kernel's own differs, but what it shows to programs is fixed.
const MILLISECONDS_PER_TICK: u64 = 10;

/// The fields of `/proc/PID/stat` after the command's name, which may hold spaces; the first is field 3.
fn stat_field(stat: &str, field: usize) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_ascii_whitespace().nth(field - 3)?.parse().ok()?;
    ticks
        .checked_mul(MILLISECONDS_PER_TICK)
        .map(Duration::from_millis)
}

fn cpu_time(stat: &str) -> Option<Duration> {
    Some(stat_field(stat, 14)? + stat_field(stat, 15)?)
}

fn since_boot(stat: &str) -> Option<Duration> {
    stat_field(stat, 22)
}

fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn kibibytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let number: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(number * 1024.0)
}

fn max_files(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn count(number: usize) -> Option<f64> {
    u32::try_from(number).ok().map(f64::from)
}

/// The `tokio_*` families.
#[derive(Debug)]
struct Tokio(Handle);

impl Collector for Tokio {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.0.metrics();
        let workers = metrics.num_workers();
        let figures = [
            ("tokio_workers", "Worker threads of the runtime", workers),
            (
                "tokio_alive_tasks",
                "Tasks that have not ended",
                metrics.num_alive_tasks(),
            ),
            (
                "tokio_global_queue_depth",
                "Tasks that wait for any worker thread",
                metrics.global_queue_depth(),
            ),
        ];
        for (name, help, figure) in figures {
            if let Some(figure) = count(figure) {
                gauge(&mut encoder, name, help, figure)?;
            }
        }
        let busy: Duration = (0..workers)
            .map(|worker| metrics.worker_total_busy_duration(worker))
            .sum();
        let help = "Time that worker threads were busy, added up";
        counter(&mut encoder, "tokio_busy_seconds", help, busy.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        let stat = "17 (a (b) c) S 1 17 17 0 -1 4194304 9 0 0 0 250 50 0 0 20 0 3 0 12345 1 2 3";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(since_boot(stat), Some(Duration::from_millis(123_450)));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(
            kibibytes("VmSize:\t  8 kB\nVmRSS:\t  2 kB\n", "VmRSS:"),
            Some(2048.0)
        );
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        assert_eq!(max_files(limits), Some(1024.0));
        assert_eq!(max_files("Max open files  unlimited unlimited files"), None);
        assert_eq!(cpu_time("nonsense"), None);
    }
}
