//! What processes cost, as the kernel tells it in `/proc` (proc(5)).

use std::fs;

use anyhow::Context as _;

/// Ticks a second: the kernel's USER_HZ, 100 on every Linux that is not exotic.
const USER_HZ: f64 = 100.0;

/// Seconds of processor time of one process so far, in user code and in the kernel.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} is gone"))?;
    parse(&text).context("/proc/PID/stat")
}

/// Reads user and system time, of all threads that are or were.
fn parse(stat: &str) -> Option<f64> {
    // The second field is in parentheses and may hold anything: count from its end. Fields 14 and 15 are the times.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "4242 (a) program (x) S 17 4242 1 0 -1 4194560 900 0 3 0 150 25 999 999 20 0 5 0 88 1000 70";

    #[test]
    fn a_name_with_parentheses_and_spaces_moves_no_field() {
        assert_eq!(parse(LINE), Some(1.75));
        assert_eq!(parse("4242 (cut"), None);
        assert_eq!(parse("4242 (cut) S 17 4242"), None);
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let before = cpu_seconds(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while cpu_seconds(std::process::id()).unwrap() < before + 0.03 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_seconds(std::process::id()).unwrap() < before + 60.0, "{sum} turns");
    }
}
