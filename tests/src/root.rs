//! A root file system to install packages into: the machine's own, copy-on-write, in a mount namespace that ends with this process.
//!
//! Nothing that happens there reaches the machine's files or its package database. There is no systemd: [`Root::open`] puts a
//! `systemctl` there which does for `enable --now erdp` what systemd would do by the unit that the package has installed: user,
//! capabilities, runtime and state folder, the commands before the start.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::{
    cleanup::{self, Guard, Leftover},
    netns::Namespace,
    process::Process,
};

/// Makes the root at `$1`, says so by a file, and keeps the mount namespace.
const MOUNT: &str = r#"set -e
mount -t tmpfs -o mode=0755 erdp-root "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" erdp-root "$1/root"
for folder in proc sys dev; do mount --rbind "/$folder" "$1/root/$folder"; done
mount -t tmpfs -o mode=0755 erdp-run "$1/root/run"
touch "$2"
exec sleep 1800
"#;

/// What stands for systemd: `systemctl enable --now erdp`, and nothing else.
const SYSTEMCTL: &str = r#"#!/bin/sh
[ "$*" = "enable --now erdp" ] || { echo "systemctl $*: only enable --now erdp is known here" >&2; exit 1; }
setsid /usr/local/sbin/erdp-service >/run/erdp-service.log 2>&1 </dev/null &
echo $! >/run/erdp-service.pid
echo "Created symlink /etc/systemd/system/multi-user.target.wants/erdp.service."
for _ in $(seq 200); do erdp show links >/dev/null 2>&1 && exit 0; sleep 0.05; done
cat /run/erdp-service.log >&2
exit 1
"#;

/// The root. Fields in the order of the end.
#[derive(Debug)]
pub struct Root {
    service: Option<(u32, Guard)>,
    keeper: Process,
    place: PathBuf,
}

impl Root {
    /// Makes one; its files are below `folder`.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn open(namespace: &Namespace, folder: &Path) -> Result<Root> {
        let (place, ready) = (folder.join("root"), folder.join("root-is-ready"));
        fs::create_dir_all(&place)?;
        let mut command = namespace.command("unshare")?;
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh"])
            .arg(&place)
            .arg(&ready);
        let mut keeper = Process::start("root", command, folder)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ready.exists() {
            keeper.must_run()?;
            ensure!(Instant::now() < deadline, "the root is not mounted");
            thread::sleep(Duration::from_millis(10));
        }
        let root = Root { service: None, keeper, place };
        root.write("usr/local/bin/systemctl", SYSTEMCTL)?;
        Ok(root)
    }

    /// Runs shell commands in it, inside a network namespace; the answer is what they print.
    ///
    /// # Errors
    /// Their own message.
    pub fn run(&self, namespace: &Namespace, commands: &str) -> Result<String> {
        let output = self.command(namespace, commands)?.output()?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("`{commands}` failed ({}): {out}{err}", output.status);
        }
        Ok(format!("{out}{err}"))
    }

    fn command(&self, namespace: &Namespace, commands: &str) -> Result<Command> {
        let mut command = namespace.command("nsenter")?;
        // With the keeper's root: the namespace's own would be another one where all of this runs in a chroot.
        command.args(["--mount", "--root", "--target", &self.keeper.id().to_string(), "chroot"]);
        command.arg(self.place.join("root")).args(["sh", "-c", commands]);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }

    /// Writes an executable file.
    ///
    /// # Errors
    /// When it cannot.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        // Through the keeper's root: the mounts are not in our own namespace.
        let inside = self.inside(path);
        fs::write(&inside, text).with_context(|| format!("cannot write {}", inside.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&inside, mode).map_err(Into::into)
    }

    /// A path in there as we reach it.
    pub fn inside(&self, path: &str) -> PathBuf {
        let place = self.place.join("root").join(path);
        Path::new("/proc")
            .join(self.keeper.id().to_string())
            .join("root")
            .join(place.strip_prefix("/").unwrap_or(&place))
    }

    /// Writes what the installed unit says as a program: what systemd does at a start.
    ///
    /// # Errors
    /// When the unit is not as expected.
    pub fn take_unit(&self) -> Result<()> {
        let unit = fs::read_to_string(self.inside("usr/lib/systemd/system/erdp.service"))
            .context("the package has no unit")?;
        let all = |key: &str| -> Vec<&str> {
            unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
        };
        let one = |key: &str| all(key).first().copied().with_context(|| format!("the unit has no {key}"));
        let capabilities = |key: &str| -> Result<String> {
            let names = one(key)?
                .split(' ')
                .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
            Ok(format!("-all{}", names.collect::<String>()))
        };
        let (user, group, state) = (one("User")?, one("Group")?, one("StateDirectory")?);
        let mut script = "#!/bin/sh\nset -e\n".to_owned();
        for before in all("ExecStartPre") {
            script +=
                before.strip_prefix('+').context("a command before the start without full privileges")?;
            script.push('\n');
        }
        script += &format!(
            "install -d -m {} -o {user} -g {group} /run/{}\n\
             install -d -m {} -o {user} -g {group} /var/lib/{state}\n\
             export STATE_DIRECTORY=/var/lib/{state}\n\
             exec setpriv --reuid {user} --regid {group} --init-groups --no-new-privs --bounding-set {} --inh-caps {} \
             --ambient-caps {} -- {}\n",
            one("RuntimeDirectoryMode")?,
            one("RuntimeDirectory")?,
            one("StateDirectoryMode")?,
            capabilities("CapabilityBoundingSet")?,
            capabilities("AmbientCapabilities")?,
            capabilities("AmbientCapabilities")?,
            one("ExecStart")?,
        );
        self.write("usr/local/sbin/erdp-service", &script)
    }

    /// Registers the service that `systemctl` has started, so that nothing of it is left behind.
    ///
    /// # Errors
    /// When there is none.
    pub fn adopt_service(&mut self) -> Result<u32> {
        let text =
            fs::read_to_string(self.inside("run/erdp-service.pid")).context("no service has been started")?;
        let id: u32 = text.trim().parse()?;
        let ((), guard) = cleanup::guarded(|| Ok(((), Leftover::Process(id))))?;
        self.service = Some((id, guard));
        Ok(id)
    }

    /// Ends the service by a signal and waits until it has ended.
    ///
    /// # Errors
    /// When it does not.
    pub fn end_service(&mut self, signal: nix::sys::signal::Signal) -> Result<()> {
        let (id, guard) = self.service.take().context("no service runs")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id.cast_signed()), signal)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while cleanup::is_running(id) {
            ensure!(Instant::now() < deadline, "the service does not end");
            thread::sleep(Duration::from_millis(10));
        }
        cleanup::forget(guard);
        Ok(())
    }
}
