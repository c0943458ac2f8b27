//! What a row depends on, as one short hash: the content of files in the working tree, the compiler, the kernel, the lab's packages.
//!
//! git says which files belong to the tree (those that it does not know yet are among them) and hashes what they hold now, committed or
//! not. Without git there are no hashes, and no earlier run counts.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::{
    command::{command, output},
    pieces,
};

/// The tree's files and what they hold, and what belongs to the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    files: BTreeMap<String, String>,
    machine: String,
}

impl Sources {
    /// Reads the tree and the machine; `None` without git.
    pub fn read() -> Option<Sources> {
        let listed = output(command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
        let root = crate::command::root();
        let paths: Vec<&str> = listed.lines().filter(|path| root.join(path).is_file()).collect();
        let hashes =
            fed(command("git").args(["hash-object", "--no-filters", "--stdin-paths"]), &paths.join("\n"))?;
        let files =
            paths.iter().zip(hashes.lines()).map(|(path, hash)| ((*path).to_owned(), hash.to_owned()));
        Some(Sources { files: files.collect(), machine: machine() })
    }

    /// For what depends on files alone.
    pub fn without_machine(self) -> Sources {
        Sources { machine: String::new(), ..self }
    }

    /// The hash of what is below these paths, and of `more`; the empty path is the whole tree.
    pub fn hash(&self, paths: &[String], more: &str) -> Option<String> {
        let hash = fed(command("git").args(["hash-object", "--stdin"]), &self.text(paths, more))?;
        Some(hash.trim().get(..12)?.to_owned())
    }

    fn text(&self, paths: &[String], more: &str) -> String {
        let is_wanted = |file: &str| {
            paths.iter().any(|path| {
                file == path || ((path.is_empty() || path.ends_with('/')) && file.starts_with(path.as_str()))
            })
        };
        let files = self.files.iter().filter(|(file, _)| is_wanted(file));
        let files: String = files.map(|(file, hash)| format!("{hash} {file}\n")).collect();
        format!("{files}{}\n{more}\n", self.machine)
    }
}

/// The compiler, the kernel, and the versions of the packages that the tests use.
fn machine() -> String {
    let rustc = output(Command::new("rustc").arg("--version")).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut packages = Command::new("dpkg-query");
    packages.args(["-W", "-f", "${Package} ${Version}\n"]).args(pieces::all_packages());
    // It fails when it does not know one of the names, and still prints the others.
    let packages = packages.stderr(Stdio::null()).output().map(|output| output.stdout).unwrap_or_default();
    format!("{rustc}{kernel}{}", String::from_utf8_lossy(&packages))
}

/// What a command prints that is given `text` on its standard input.
fn fed(command: &mut Command, text: &str) -> Option<String> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let text = text.to_owned();
    // On a thread of its own: it may print before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().ok()?;
    writer.join().ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(rows: &[(&str, &str)]) -> Sources {
        let files = rows.iter().map(|(file, hash)| ((*file).to_owned(), (*hash).to_owned())).collect();
        Sources { files, machine: "rustc 1.95\n".to_owned() }
    }

    fn paths(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_row_depends_on_its_files_and_folders_and_on_no_others() {
        let tree = sources(&[
            ("Cargo.lock", "1"),
            ("docs/a.md", "2"),
            ("src/a.rs", "3"),
            ("src/b/c.rs", "4"),
            ("src2/d.rs", "5"),
        ]);
        assert_eq!(
            tree.text(&paths(&["Cargo.lock", "src/"]), "full"),
            "1 Cargo.lock\n3 src/a.rs\n4 src/b/c.rs\nrustc 1.95\n\nfull\n"
        );
        assert_eq!(tree.text(&paths(&["src/b/c.rs", "docs/b.md"]), ""), "4 src/b/c.rs\nrustc 1.95\n\n\n");
        assert_eq!(tree.text(&paths(&[""]), "").lines().count(), 8, "the empty path is the whole tree");
    }

    #[test]
    fn other_content_has_another_hash_and_the_same_content_the_same() {
        let [one, other] = ["3", "4"].map(|hash| sources(&[("src/a.rs", hash), ("docs/a.md", "2")]));
        let hash = |tree: &Sources, more| tree.hash(&paths(&["src/"]), more);
        // Without git there is nothing to compare.
        let Some(first) = hash(&one, "") else { return };
        assert_eq!(Some(&first), hash(&one, "").as_ref());
        assert_ne!(Some(&first), hash(&other, "").as_ref());
        assert_ne!(Some(&first), hash(&one, "ERDP_DATA").as_ref());
    }
}
