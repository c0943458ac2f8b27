//! `cargo xtask soak`: failing links, flapping routes, killed controllers and changed bandwidths for as long as is said; ends with the first
//! difference between what should be and what is. With `--requests` questions to the control socket and scrapes instead, whose rate and
//! memory are printed.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    command::{cargo, command, is_root},
    pieces::Need,
    run::become_program,
    setup,
};

/// How.
#[derive(clap::Args)]
pub struct Options {
    /// Duration: 90s, 30m, 8h
    #[arg(long = "for", value_name = "TIME", value_parser = length, default_value = "30m")]
    length: Duration,
    /// Seed for the order of events; each run prints its seed
    #[arg(long)]
    seed: Option<u64>,
    /// Write the results as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only requests to the control socket and scrapes, as fast as one CPU makes them: the memory must stay what it was
    #[arg(long, conflicts_with_all = ["seed", "json"])]
    requests: bool,
}

/// The test that makes the requests.
const REQUESTS: &str = "control_and_http_requests_without_end_take_no_more_memory";

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        bail!(
            "`soak` makes network namespaces and loads BPF programs, which needs root: run `sudo -E cargo xtask soak`"
        );
    }
    setup::ensure(&[Need::Lab])?;
    if options.requests {
        build::erdp()?;
        let mut test = cargo();
        test.env("ERDP_SOAK_SECONDS", options.length.as_secs().to_string());
        test.args([
            "test",
            "--package",
            "erdp-tests",
            "--test",
            "hostile_operator",
            "--",
            "--include-ignored",
            "--exact",
            REQUESTS,
        ]);
        test.arg("--nocapture");
        return become_program(test);
    }
    let mut soak = command(build::erdp()?.with_file_name("erdp-bench"));
    soak.arg("soak").arg("--seconds").arg(options.length.as_secs().to_string());
    if let Some(seed) = options.seed {
        soak.arg("--seed").arg(seed.to_string());
    }
    if let Some(json) = &options.json {
        soak.arg("--json").arg(std::path::absolute(json).context("no current folder")?);
    }
    become_program(soak)
}

/// A number with its unit.
pub fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write 90s, 30m or 8h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|it| *it > 0).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("8h", Some(28_800)),
            ("0s", None),
            ("30", None),
            ("m", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(length(text).ok().map(|it| it.as_secs()), seconds, "{text}");
        }
    }
}
