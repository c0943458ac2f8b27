//! What is in the package, as a bill of materials in CycloneDX's JSON: every crate that is linked, with version, licence, hash and purl.
//!
//! cargo says what the build takes (`cargo tree` with the features of the very build), which of it is linked and which only makes code at
//! build time, `cargo metadata` knows licences, and Cargo.lock the hashes. Nothing is in it that differs from run to run: no serial
//! number, and the commit's time. (It is made here because two builds with features of their own are in one package, the daemon's and the object's.)
//! Pure from [`Bill`] on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{deb, licences::Linked};
use crate::{
    build,
    command::{cargo, command, host, line, metadata, output, root},
    lock::{self, Locked},
};

/// A crate by its name and version.
type Crate = (String, String);

/// Where crates are linked into: the packages that are built in one call, which of them it is, and its target where that is not the host.
const PARTS: [(&str, &[&str], &str, Option<&str>); 2] = [
    // One build makes both, and their features are united.
    ("daemon", &["erdp-user", "erdp-tests"], "erdp-user", None),
    ("BPF object", &["erdp-ebpf"], "erdp-ebpf", Some(build::BPF_TARGET)),
];

/// What is known of a crate.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Facts {
    /// Into what it is linked; nothing: it runs at build time only.
    parts: BTreeSet<&'static str>,
    licence: String,
    /// The registry's hash of it; a crate of this workspace has none.
    checksum: Option<String>,
    repository: Option<String>,
    /// Where its manifest is on this machine.
    folder: PathBuf,
    uses: BTreeSet<Crate>,
}

/// All that the document says.
#[derive(Debug, Default)]
struct Bill {
    crates: BTreeMap<Crate, Facts>,
    /// The packaged binary's hash.
    binary: String,
    /// RFC 3339.
    time: String,
    compiler: String,
}

/// The crates that are linked, or that made what is linked.
#[derive(Clone)]
pub struct Crates(BTreeMap<Crate, Facts>);

/// The document for a packaged binary.
///
/// # Errors
/// When the binary cannot be read, or there is no rustc.
pub fn text(crates: &Crates, binary: &Path, epoch: u64) -> Result<String> {
    let time = i64::try_from(epoch).ok().and_then(|it| jiff::Timestamp::from_second(it).ok());
    let bill = Bill {
        crates: crates.0.clone(),
        binary: deb::sha256(binary)?,
        time: time.context("the commit's time is none")?.to_string(),
        compiler: output(command("rustc").arg("--version")).context("no rustc")?.trim().to_owned(),
    };
    Ok(format!("{:#}\n", document(&bill)))
}

/// The crates of other authors that are linked.
pub fn linked(crates: &Crates) -> Vec<Linked> {
    let is_linked = |facts: &Facts| !facts.parts.is_empty() && facts.checksum.is_some();
    let of_others = crates.0.iter().filter(|(_, facts)| is_linked(facts));
    let linked = of_others.map(|((name, version), facts)| Linked {
        name: format!("{name} {version}"),
        licence: facts.licence.clone(),
        parts: facts.parts.iter().copied().collect::<Vec<_>>().join(" and the "),
        folder: facts.folder.clone(),
    });
    linked.collect()
}

/// Asks cargo for them, which takes a few seconds.
///
/// # Errors
/// When cargo does not say what it needs to know.
pub fn crates() -> Result<Crates> {
    let mut crates: BTreeMap<Crate, Facts> = BTreeMap::new();
    let host = host()?;
    for (part, built, packaged, target) in PARTS {
        let target = target.unwrap_or(&host);
        let (linked, _) = below(&tree(built, "normal", target)?, packaged);
        let (all, makers) = below(&tree(built, "normal,build", target)?, packaged);
        for known in all.into_iter().chain(makers) {
            crates.entry(known).or_default();
        }
        ensure!(!linked.is_empty(), "`cargo tree` lists nothing of {packaged}");
        for known in linked {
            crates.entry(known).or_default().parts.insert(part);
        }
    }
    let listed = metadata()?;
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    describe(&mut crates, &listed, &lock::packages(&lock)?)?;
    Ok(Crates(crates))
}

fn tree(packages: &[&str], edges: &str, target: &str) -> Result<String> {
    let mut tree = cargo();
    tree.args(["tree", "--prefix", "depth", "--no-dedupe", "--format", " {p}"]);
    tree.args(["--edges", edges, "--target", target]);
    tree.args(packages.iter().flat_map(|package| ["--package", package]));
    output(&mut tree).with_context(|| format!("`{}` fails", line(&tree)))
}

/// The crates below one root of cargo's tree, itself among them: those that are linked, and what makes code at build time (macros and
/// what they are made of).
fn below(tree: &str, root: &str) -> (BTreeSet<Crate>, BTreeSet<Crate>) {
    let (mut linked, mut makers) = (BTreeSet::new(), BTreeSet::new());
    let (mut is_inside, mut maker) = (false, None);
    for line in tree.lines() {
        let Some((depth, rest)) = line.split_once(' ') else { continue };
        let Ok(depth) = depth.parse::<u32>() else { continue };
        let mut words = rest.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        if depth == 0 {
            is_inside = name == root;
        }
        if !is_inside {
            continue;
        }
        if maker.is_some_and(|maker| depth <= maker) {
            maker = None;
        }
        if maker.is_none() && rest.contains("(proc-macro)") {
            maker = Some(depth);
        }
        let known = (name.to_owned(), version.trim_start_matches('v').to_owned());
        if maker.is_some() { &mut makers } else { &mut linked }.insert(known);
    }
    (linked, makers)
}

/// Licences, places and uses of what `cargo metadata` knows, and the lock's hashes.
fn describe(crates: &mut BTreeMap<Crate, Facts>, listed: &Value, locked: &[Locked]) -> Result<()> {
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let word = |of: &Value| of.as_str().map(str::to_owned);
    let mut by_id = BTreeMap::new();
    for package in list(&listed["packages"]) {
        let (Some(id), Some(name), Some(version)) =
            (word(&package["id"]), word(&package["name"]), word(&package["version"]))
        else {
            continue;
        };
        let known = (name, version);
        if let Some(facts) = crates.get_mut(&known) {
            // Before there were expressions a slash stood for OR.
            facts.licence = word(&package["license"]).unwrap_or_default().replace('/', " OR ");
            facts.licence = facts.licence.split_whitespace().collect::<Vec<_>>().join(" ");
            facts.repository = word(&package["repository"]);
            let manifest = PathBuf::from(word(&package["manifest_path"]).unwrap_or_default());
            facts.folder = manifest.parent().unwrap_or(Path::new("")).to_owned();
        }
        by_id.insert(id, known);
    }
    let names: BTreeSet<Crate> = crates.keys().cloned().collect();
    for node in list(&listed["resolve"]["nodes"]) {
        let Some(facts) =
            by_id.get(node["id"].as_str().unwrap_or_default()).and_then(|it| crates.get_mut(it))
        else {
            continue;
        };
        for used in list(&node["deps"]) {
            let is_for_tests_only = list(&used["dep_kinds"]).iter().all(|kind| kind["kind"] == "dev");
            let used = by_id.get(used["pkg"].as_str().unwrap_or_default());
            facts.uses.extend(used.filter(|it| !is_for_tests_only && names.contains(*it)).cloned());
        }
    }
    for locked in locked {
        if let Some(facts) = crates.get_mut(&(locked.name.clone(), locked.version.to_string())) {
            facts.checksum.clone_from(&locked.checksum);
        }
    }
    for ((name, version), facts) in crates {
        ensure!(!facts.licence.is_empty(), "{name} {version} names no licence");
    }
    Ok(())
}

fn document(bill: &Bill) -> Value {
    let components: Vec<Value> = bill.crates.iter().map(|(known, facts)| component(known, facts)).collect();
    let uses = |facts: &Facts| facts.uses.iter().map(purl).collect::<Vec<_>>();
    let mut dependencies: Vec<Value> = bill
        .crates
        .iter()
        .map(|(known, facts)| json!({"ref": purl(known), "dependsOn": uses(facts)}))
        .collect();
    let parts = PARTS.iter().map(|(_, _, package, _)| (*package).to_owned());
    let parts: Vec<String> = parts.map(|part| purl(&(part, env!("CARGO_PKG_VERSION").to_owned()))).collect();
    dependencies.push(json!({"ref": "erdp", "dependsOn": parts}));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": bill.time,
            "tools": {"components": [{"type": "application", "name": "cargo xtask package",
                                      "version": env!("CARGO_PKG_VERSION")}]},
            "component": {
                "type": "application",
                "bom-ref": "erdp",
                "name": "erdp",
                "version": env!("CARGO_PKG_VERSION"),
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "hashes": [{"alg": "SHA-256", "content": bill.binary}],
                "properties": [{"name": "erdp:compiler", "value": bill.compiler}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn component(known: &Crate, facts: &Facts) -> Value {
    let (name, version) = known;
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(known),
        "name": name,
        "version": version,
        // What is needed to make the program and is not in it is out of scope of what runs.
        "scope": if facts.parts.is_empty() { "excluded" } else { "required" },
        "licenses": [{"expression": facts.licence}],
        "purl": purl(known),
    });
    if let Some(checksum) = &facts.checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(repository) = &facts.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    if !facts.parts.is_empty() {
        let parts = facts.parts.iter().map(|part| json!({"name": "erdp:linked-into", "value": part}));
        component["properties"] = parts.collect();
    }
    component
}

/// The package URL: `pkg:cargo/name@version`; a `+` in a version is escaped.
fn purl((name, version): &Crate) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, version: &str) -> Crate {
        (name.to_owned(), version.to_owned())
    }

    const TREE: &str = "0 erdp-tests v0.1.0 (/x/tests)\n1 strace v9.0.0\n0 erdp-user v0.1.0 (/x/erdp-user)\n\
                        1 derive v1.0.0 (proc-macro)\n2 syn v2.0.0\n3 unicode v1.0.0\n1 bytes v1.2.0+b\n2 libc v0.2.1\n";

    #[test]
    fn of_cargos_tree_the_part_of_the_package_counts_and_macros_are_not_linked() {
        let (linked, makers) = below(TREE, "erdp-user");
        let names = |set: &BTreeSet<Crate>| set.iter().map(|it| it.0.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&linked), "bytes erdp-user libc");
        assert_eq!(names(&makers), "derive syn unicode");
    }

    #[test]
    fn the_document_says_of_each_crate_version_licence_hash_and_where_it_is_linked_into() {
        let mut crates: BTreeMap<Crate, Facts> =
            [(known("bytes", "1.2.0+b"), Facts { parts: ["daemon"].into(), ..Facts::default() })].into();
        crates.insert(known("syn", "2.0.0"), Facts::default());
        let listed = json!({
            "packages": [
                {"id": "b", "name": "bytes", "version": "1.2.0+b", "license": "MIT/Apache-2.0", "repository": "git:b"},
                {"id": "s", "name": "syn", "version": "2.0.0", "license": "MIT"},
                {"id": "p", "name": "proptest", "version": "1.0.0", "license": "MIT"},
            ],
            "resolve": {"nodes": [{"id": "b", "deps": [
                {"pkg": "s", "dep_kinds": [{"kind": null}]},
                {"pkg": "p", "dep_kinds": [{"kind": "dev"}]},
            ]}]},
        });
        let locked = Locked {
            name: "bytes".into(),
            version: "1.2.0+b".parse().expect("a version"),
            source: None,
            checksum: Some("ab".into()),
        };
        describe(&mut crates, &listed, &[locked]).expect("it is described");
        let document = document(&Bill { crates, ..Bill::default() });
        let first = &document["components"][0];
        assert_eq!(first["purl"], "pkg:cargo/bytes@1.2.0%2Bb");
        assert_eq!(first["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(first["hashes"][0], json!({"alg": "SHA-256", "content": "ab"}));
        assert_eq!(first["properties"][0]["value"], "daemon");
        assert_eq!(document["components"][1]["scope"], "excluded");
        assert_eq!(document["dependencies"][0]["dependsOn"], json!(["pkg:cargo/syn@2.0.0"]));
        assert!(document.get("serialNumber").is_none());
    }

    #[test]
    fn of_this_workspace_every_crate_of_a_registry_has_a_hash_and_those_of_tests_are_not_in_the_list() {
        let Crates(crates) = crates().expect("cargo knows the workspace");
        let parts = |wanted: &str| {
            let found = crates.iter().find(|(known, _)| known.0 == wanted);
            found.map(|(_, facts)| facts.parts.iter().copied().collect::<Vec<_>>().join(", "))
        };
        assert_eq!(parts("tokio").as_deref(), Some("daemon"));
        assert_eq!(parts("aya-ebpf").as_deref(), Some("BPF object"));
        assert_eq!(parts("erdp-common").as_deref(), Some("BPF object, daemon"));
        assert_eq!(parts("serde_derive").as_deref(), Some(""), "a macro is not linked");
        assert_eq!((parts("proptest"), parts("bgpkit-parser"), parts("xtask")), (None, None, None));
        for ((name, version), facts) in &crates {
            assert_eq!(facts.checksum.is_some(), !name.starts_with("erdp-"), "{name} {version}");
        }
        assert!(crates.len() > 100, "{}", crates.len());
    }

    #[test]
    fn a_crate_without_a_licence_is_refused() {
        let mut crates: BTreeMap<Crate, Facts> = [(known("x", "1.0.0"), Facts::default())].into();
        let listed = json!({"packages": [{"id": "x", "name": "x", "version": "1.0.0", "license": null}]});
        let refused = describe(&mut crates, &listed, &[]);
        assert_eq!(refused.expect_err("no licence").to_string(), "x 1.0.0 names no licence");
    }
}
