//! What `erdp` refuses to start with: each refusal has its exit code and names the object, the reason and the remedy, and leaves the
//! machine as it was.
//!
//! The binary of `cargo xtask build` in a network namespace of its own, as an operator would start it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::{
        self,
        cleanup::{self, Guard},
        enter,
        netns::{self, Namespace},
        plan,
    },
};

/// Wrong arguments or configuration.
const CONFIGURATION: i32 = 2;
/// This machine cannot run the router.
const MACHINE: i32 = 3;

/// An edge with its three interfaces, their far ends in a second namespace.
struct Place {
    edge: Namespace,
    _far: Namespace,
    folder: PathBuf,
    _guard: Guard,
}

impl Place {
    fn new() -> Result<Place> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let (edge, far) = (Namespace::add(&format!("{name}-edge"))?, Namespace::add(&format!("{name}-far"))?);
        for link in [plan::CE.far, plan::PRIMARY.near, plan::SECONDARY.near] {
            netns::connect((&edge, link.1), (&far, link.1))?;
        }
        Ok(Place { edge, _far: far, folder, _guard: guard })
    }

    /// Starts erdp with this configuration and waits for its end.
    fn erdp(&self, configuration: &str) -> Result<Output> {
        self.erdp_by(configuration, Command::new(edge::binary()?))
    }

    fn erdp_by(&self, configuration: &str, mut command: Command) -> Result<Output> {
        let file = self.folder.join("edge.toml");
        fs::write(&file, configuration)?;
        command.arg("run").arg("--config").arg(&file).arg("--control").arg(self.folder.join("erdp.sock"));
        enter::prepare(&mut command, self.edge.name())?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                let said = child.wait_with_output()?;
                anyhow::bail!(
                    "erdp has started instead of refusing: {}",
                    String::from_utf8_lossy(&said.stderr)
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(child.wait_with_output()?)
    }

    /// The machine as erdp would have changed it: addresses, forwarding, attached programs.
    fn state(&self) -> Result<String> {
        let addresses = self.edge.ip("-oneline address show scope global")?;
        let programs =
            self.edge.ip("-oneline link show")?.lines().filter(|line| line.contains("xdp")).count();
        Ok(format!("{addresses}{programs} programs"))
    }
}

fn refused(place: &Place, what: &str, output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    println!("  {what}: {}", said.trim());
    ensure!(
        output.status.code() == Some(code),
        "{what}: {} instead of exit code {code}: {said}",
        output.status
    );
    for word in words {
        ensure!(said.contains(word), "{what}: the message does not name `{word}`: {said}");
    }
    ensure!(!said.contains("panicked"), "{what}: {said}");
    let state = place.state()?;
    ensure!(state == "0 programs", "{what}: something is left on the machine: {state}");
    Ok(())
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place_and_changes_nothing() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let good = edge::configuration();
    let rows: &[(&str, String, &[&str])] = &[
        ("unknown key", good.replace("bandwidth", "breadth"), &["edge.toml", "breadth"]),
        (
            "overlapping subnets",
            good.replace("198.18.1.", "198.18.0."),
            &["edge.toml", "198.18.0.", "overlap"],
        ),
        (
            "only one link",
            good.replace("secondary = { local = \"msee2\" }\n", ""),
            &["edge.toml", "secondary"],
        ),
        ("an unknown peering", good.replace("lab/private", "lab/public"), &["edge.toml", "public"]),
        ("no TOML at all", "asn = = 1".to_owned(), &["edge.toml"]),
    ];
    for (what, configuration, words) in rows {
        ensure!(*configuration != good, "{what}: the row changes nothing");
        refused(&place, what, &place.erdp(configuration)?, CONFIGURATION, words)?;
    }
    Ok(())
}

#[test]
fn a_machine_that_cannot_run_it_is_refused_with_the_remedy() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let good = edge::configuration();
    let absent = good.replace("\"msee2\"", "\"absent0\", required = true");
    refused(
        &place,
        "a required interface that does not exist",
        &place.erdp(&absent)?,
        MACHINE,
        &["absent0"],
    )?;
    let none = ["ce0", "msee1", "msee2"]
        .iter()
        .fold(good.clone(), |text, name| text.replace(&format!("\"{name}\""), &format!("\"{name}9\"")));
    refused(&place, "no interface at all", &place.erdp(&none)?, MACHINE, &["msee19", "none of the"])?;

    let listener = enter::run(place.edge.name(), || {
        std::net::TcpListener::bind("[::]:179").context("cannot take port 179")
    })?;
    refused(&place, "a busy port", &place.erdp(&good)?, MACHINE, &["179"])?;
    drop(listener);

    // A copy, because another user may not go where the binary lies. setpriv, because entering the namespace needs root.
    let binary = place.folder.join("erdp");
    fs::copy(edge::binary()?, &binary)?;
    let mut unprivileged = Command::new("setpriv");
    unprivileged.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary);
    refused(&place, "no privilege", &place.erdp_by(&good, unprivileged)?, MACHINE, &["CAP_"])
}
