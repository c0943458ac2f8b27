//! `cargo xtask setup`: installs what the other verbs need; with `--check` only tells. Running it again changes nothing.
//!
//! Every verb calls [`ensure`] for its own needs first, so that this verb never has to be run by hand.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{cargo, command, must},
    facts::Facts,
    pieces::{Need, Plan, Step, Tool, plan, units_of},
    vm::{self, apt::Apt},
};

/// Options of `setup`.
#[derive(clap::Args)]
pub struct Options {
    /// Only report what is installed, what is missing and what would be done; exit code 1 if something is missing
    #[arg(long)]
    check: bool,
}

const EVERYTHING: &[Need] =
    &[Need::Bpf, Need::Lab, Need::Package, Need::Vm, Need::Check, Need::Lint, Need::Full];

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    let before = plan(EVERYTHING, &Facts::gather());
    print(&before);
    if options.check || before.complete() {
        return Ok(if before.complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    ensure(EVERYTHING)?;
    println!("setup: everything is there");
    Ok(ExitCode::SUCCESS)
}

/// Supplies what is missing of `needs` and says so; silent when nothing is.
///
/// # Errors
/// When a piece is missing and cannot be installed; the message names the remedy.
pub fn ensure(needs: &[Need]) -> Result<Facts> {
    let facts = Facts::gather();
    let plan = plan(needs, &facts);
    if plan.complete() {
        return Ok(facts);
    }
    if !plan.obstacles.is_empty() {
        bail!("{}", plan.obstacles.join("\n"));
    }
    for step in &plan.steps {
        println!("setup: {}", describe(step));
        match step {
            Step::Packages(packages) => install_packages(packages)?,
            Step::Backports(packages) => Apt::open(&vm::folder())?.install(packages)?,
            Step::CargoTool(tool) => install_tool(tool)?,
        }
    }
    let facts = Facts::gather();
    let missing = still_missing(needs, &facts);
    if !missing.is_empty() {
        bail!(
            "installed, but still not found: {}. Is cargo's folder of programs (~/.cargo/bin, or $CARGO_HOME/bin) in PATH?",
            missing.join(", ")
        );
    }
    Ok(facts)
}

fn still_missing(needs: &[Need], facts: &Facts) -> Vec<String> {
    plan(needs, facts).pieces.into_iter().filter(|piece| !piece.there).map(|piece| piece.name).collect()
}

fn print(plan: &Plan) {
    for piece in &plan.pieces {
        let state = if piece.there { "there  " } else { "MISSING" };
        println!("{state}  {:<36} {}", piece.name, piece.purpose);
    }
    for step in &plan.steps {
        println!("to do: {}", describe(step));
    }
    for obstacle in &plan.obstacles {
        println!("but:   {obstacle}");
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Packages(packages) => {
            format!("apt-get install {} (their services stay stopped and disabled)", packages.join(" "))
        }
        Step::Backports(packages) => {
            format!("apt-get install {}, from the backports where they can be had", packages.join(" "))
        }
        Step::CargoTool(tool) => {
            let environment: String =
                tool.environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
            format!("{environment}cargo install {}", tool_arguments(tool).join(" "))
        }
    }
}

/// Installs from the package lists that are there; refreshes them once if that fails (a fresh machine has none).
fn install_packages(packages: &[&str]) -> Result<()> {
    let _quiet = NoServices::install(Path::new("/usr/sbin/policy-rc.d"))?;
    install_quietly(packages)?;
    disable_units(packages);
    Ok(())
}

/// What was not here before shall not start at the next boot either: packages enable their services.
fn disable_units(packages: &[&str]) {
    for unit in units_of(packages) {
        // Without systemd there is nothing to disable; with it, a failure is told by systemctl itself.
        if let Err(error) = must(command("systemctl").args(["disable", unit])) {
            eprintln!(
                "warning: {unit} may start at the next boot: {error:#}; `systemctl disable {unit}` prevents it"
            );
        }
    }
}

fn install_quietly(packages: &[&str]) -> Result<()> {
    if must(&mut apt(&["install"], packages)).is_ok() {
        return Ok(());
    }
    println!("setup: apt-get update, because the package lists at hand were not enough");
    must(&mut apt(&["update"], &[]))
        .context("the package lists cannot be refreshed: check this machine's network and its apt sources")?;
    must(&mut apt(&["install"], packages)).with_context(|| {
        format!(
            "cannot install {}: see apt-get's message above. Where this Debian has no rustc-web or llvm-22-dev, use \
             `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker` instead",
            packages.join(" ")
        )
    })
}

fn apt(verb: &[&str], packages: &[&str]) -> std::process::Command {
    let mut apt = command("apt-get");
    apt.args(["--yes", "--quiet", "--no-install-recommends"]).args(verb).args(packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn tool_arguments(tool: &Tool) -> Vec<&str> {
    let mut arguments = vec![tool.name, "--version", tool.version, "--locked"];
    arguments.extend(tool.arguments);
    arguments
}

fn install_tool(tool: &Tool) -> Result<()> {
    let mut install = cargo();
    // Not in the workspace: its .cargo/config.toml and target folder are none of the tool's business.
    install.current_dir(env::temp_dir()).arg("install").args(tool_arguments(tool)).args(["--force"]);
    install.envs(tool.environment.iter().copied());
    must(&mut install).with_context(|| {
        format!("cannot install {}, which {}: the crate registry must be reachable", tool.name, tool.purpose)
    })
}

/// While this lives, packages that are installed do not start their services: a routing daemon of Debian's has no business on
/// the machine that a lab is brought up on. A policy that the machine already has is left alone.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn install(path: &Path) -> Result<NoServices> {
        if path.exists() {
            return Ok(NoServices(None));
        }
        println!(
            "setup: {} forbids services to start during the installation; it is removed afterwards",
            path.display()
        );
        fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(NoServices(Some(path.to_owned())))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(&path)
        {
            eprintln!(
                "warning: cannot remove {}: {error}; remove it by hand, or no service starts",
                path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::BPF_LINKER;

    #[test]
    fn services_are_forbidden_while_packages_are_installed_and_only_then() {
        let path = env::temp_dir().join(format!("erdp-policy-{}", std::process::id()));
        let quiet = NoServices::install(&path).expect("a policy is written");
        let policy = fs::metadata(&path).expect("the policy is there");
        assert_eq!(policy.permissions().mode() & 0o777, 0o755);
        assert!(fs::read_to_string(&path).expect("it can be read").ends_with("exit 101\n"));
        drop(quiet);
        assert!(!path.exists());
    }

    #[test]
    fn a_policy_that_was_there_before_is_left_alone() {
        let path = env::temp_dir().join(format!("erdp-policy-kept-{}", std::process::id()));
        fs::write(&path, "theirs").expect("a file");
        drop(NoServices::install(&path).expect("nothing to do"));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "theirs");
        fs::remove_file(&path).expect("it goes");
    }

    #[test]
    fn what_would_be_done_is_said_as_a_command() {
        let step = describe(&Step::CargoTool(&BPF_LINKER));
        assert_eq!(
            step,
            "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22"
        );
        assert!(describe(&Step::Packages(vec!["frr", "bird2"])).starts_with("apt-get install frr bird2"));
    }
}
