//! How the modules hang together, by their syntax: who imports whom, how long functions are, where `unsafe` is, which files a type's methods
//! are spread over, and what a folder without clocks and sockets may not name.
//!
//! Pure over the texts of the tree. A module here is what stands directly below `src`: a folder or a file. Its order is that of `lib.rs`: an
//! import of something that stands further down points upward. Tests count nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use syn::{
    ExprUnsafe, File, ImplItemFn, Item, ItemFn, ItemImpl, ItemMod, ItemUse, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// Whose modules are looked at.
const CRATES: [&str; 2] = ["erdp-common/src/", "erdp-user/src/"];
/// Whose methods are counted by file.
const OWNERS: [&str; 2] = ["Controller", "Core"];
/// What decides by what it is given: no clock, task, socket, thread, file or kernel.
const PURE: [&str; 14] = [
    "erdp-user/src/types/",
    "erdp-user/src/rib/",
    "erdp-user/src/fib/",
    "erdp-user/src/bgp/session/",
    "erdp-user/src/bfd/recorded.rs",
    "erdp-user/src/bfd/session.rs",
    "erdp-user/src/drill/",
    "erdp-user/src/pair.rs",
    "erdp-user/src/peering.rs",
    "erdp-user/src/minimum.rs",
    "erdp-user/src/fallover.rs",
    "erdp-user/src/redundancy.rs",
    "erdp-user/src/compile/",
    "erdp-user/src/core/",
];
/// What such a folder may not name, as a segment of a path.
const IMPURE: [&str; 16] = [
    "tokio",
    "aya",
    "libc",
    "nix",
    "rtnetlink",
    "Instant",
    "SystemTime",
    "fs",
    "thread",
    "env",
    "process",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "UnixDatagram",
    "preflight",
];

/// What is there.
#[derive(Debug, Default)]
pub struct Structure {
    /// Imports by crate, importing and imported module.
    imports: BTreeMap<(&'static str, String, String), usize>,
    /// The modules of each crate in the order of its `lib.rs`.
    order: BTreeMap<&'static str, Vec<String>>,
    longest: Option<(usize, String)>,
    unsafe_blocks: usize,
    owners: BTreeMap<&'static str, BTreeSet<String>>,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// Reads the syntax of every file.
pub fn of(files: &BTreeMap<String, String>) -> Structure {
    let mut found = Structure::default();
    let tests = test_files(files);
    let is_test = |path: &str| tests.iter().any(|start| path.starts_with(start.as_str()));
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs") && !is_test(path)) {
        let Some(of) = CRATES.into_iter().find(|of| path.starts_with(of)) else {
            if path.starts_with("erdp-ebpf/src/") {
                found.unsafe_blocks += syn::parse_file(text).map_or(0, |file| unsafe_blocks(&file));
            }
            continue;
        };
        let Ok(file) = syn::parse_file(text) else {
            found.faults.push(format!("{path}: is no Rust that can be read"));
            continue;
        };
        found.unsafe_blocks += unsafe_blocks(&file);
        let rest = &path[of.len()..];
        if rest == "lib.rs" {
            found.order.insert(of, modules(&file));
            continue;
        }
        let module = rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs").to_owned();
        let is_pure = PURE.iter().any(|pure| path.starts_with(pure));
        let mut reader = Reader { path, of, module, is_pure, found: &mut found };
        reader.visit_file(&file);
    }
    let is_there = |pure: &&str| files.keys().any(|path| path.starts_with(*pure));
    let gone = PURE.iter().filter(|pure| !is_there(pure));
    found
        .faults
        .extend(gone.map(|pure| format!("{pure}: is not there, and xtask/src/structure.rs names it")));
    found
}

/// How the paths of files begin that are modules for tests alone.
fn test_files(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, text)| path.ends_with(".rs") && text.contains("(test)]"))
    {
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => path.trim_end_matches(".rs"),
        };
        let items = syn::parse_file(text).map(|file| file.items).unwrap_or_default();
        for item in items {
            if let Item::Mod(ItemMod { attrs, ident, content: None, .. }) = &item
                && is_test_only(attrs)
            {
                found.extend([format!("{folder}/{ident}.rs"), format!("{folder}/{ident}/")]);
            }
        }
    }
    found
}

fn unsafe_blocks(file: &File) -> usize {
    #[derive(Default)]
    struct Blocks(usize);
    impl<'a> Visit<'a> for Blocks {
        fn visit_expr_unsafe(&mut self, block: &'a ExprUnsafe) {
            self.0 += 1;
            visit::visit_expr_unsafe(self, block);
        }
    }
    let mut blocks = Blocks::default();
    blocks.visit_file(file);
    blocks.0
}

/// The modules that a `lib.rs` lists, in its order.
fn modules(file: &File) -> Vec<String> {
    let module = |item: &Item| match item {
        Item::Mod(module) if !is_test_only(&module.attrs) => Some(module.ident.to_string()),
        _ => None,
    };
    file.items.iter().filter_map(module).collect()
}

/// Whether an item is there for tests alone.
fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg = attribute.path().is_ident("cfg");
        attribute.path().is_ident("test")
            || is_cfg && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

struct Reader<'f> {
    path: &'f str,
    of: &'static str,
    module: String,
    is_pure: bool,
    found: &'f mut Structure,
}

impl Reader<'_> {
    /// A path that is named, by its segments.
    fn name(&mut self, segments: &[String], line: usize) {
        if let [first, module, ..] = segments
            && first == "crate"
            && *module != self.module
        {
            *self.found.imports.entry((self.of, self.module.clone(), module.clone())).or_default() += 1;
        }
        if !self.is_pure {
            return;
        }
        for segment in segments.iter().filter(|segment| IMPURE.contains(&segment.as_str())) {
            let path = self.path;
            self.found.faults.push(format!(
                "{path}:{line}: `{segment}`: what decides has no clock, task, socket, file or kernel: let it come in as an argument"
            ));
        }
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |segment: String| [before, &[segment]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
            UseTree::Name(name) => self.name(&with(name.ident.to_string()), name.ident.span().start().line),
            UseTree::Rename(name) => self.name(&with(name.ident.to_string()), name.ident.span().start().line),
            UseTree::Glob(_) => self.name(before, tree.span().start().line),
        }
    }

    fn function(&mut self, name: &syn::Ident, whole: &impl Spanned) {
        let span = whole.span();
        let lines = span.end().line + 1 - span.start().line;
        if self.found.longest.as_ref().is_none_or(|(most, _)| lines > *most) {
            self.found.longest = Some((lines, format!("{}: {name}", self.path)));
        }
    }
}

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        if !is_test_only(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if !is_test_only(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.name(&segments, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_fn(&mut self, function: &'a ItemFn) {
        if !is_test_only(&function.attrs) {
            self.function(&function.sig.ident, function);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'a ImplItemFn) {
        if !is_test_only(&function.attrs) {
            self.function(&function.sig.ident, function);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_impl(&mut self, item: &'a ItemImpl) {
        if item.trait_.is_none()
            && let syn::Type::Path(owner) = &*item.self_ty
            && let Some(last) = owner.path.segments.last()
            && let Some(owner) = OWNERS.into_iter().find(|owner| last.ident == *owner)
        {
            self.found.owners.entry(owner).or_default().insert(self.path.to_owned());
        }
        visit::visit_item_impl(self, item);
    }
}

impl Structure {
    /// Modules of a crate that import each other, directly or through others.
    fn circles(&self, of: &str) -> Vec<BTreeSet<&str>> {
        let edges = || self.imports.keys().filter(move |(other, ..)| *other == of);
        let reach = |start: &str| {
            let mut seen: BTreeSet<&str> = BTreeSet::new();
            let mut open: Vec<&str> = vec![start];
            while let Some(at) = open.pop() {
                for (_, _, to) in edges().filter(|(_, from, _)| from == at) {
                    if seen.insert(to) {
                        open.push(to);
                    }
                }
            }
            seen.into_iter().map(str::to_owned).collect::<BTreeSet<String>>()
        };
        let names: BTreeSet<&str> = edges().map(|(_, from, _)| from.as_str()).collect();
        let reached: BTreeMap<&str, BTreeSet<String>> =
            names.iter().map(|name| (*name, reach(name))).collect();
        let mut circles: Vec<BTreeSet<&str>> = Vec::new();
        for (name, reaches) in &reached {
            if circles.iter().any(|circle| circle.contains(name)) || !reaches.contains(*name) {
                continue;
            }
            let is_with = |other: &&&str| reaches.contains(**other) && reached[*other].contains(*name);
            circles.push(names.iter().filter(is_with).copied().collect());
        }
        circles
    }

    /// Imports of what stands further down in the crate's `lib.rs`.
    fn upward(&self, of: &str) -> impl Iterator<Item = (&str, &str, usize)> {
        let place = |name: &str| self.order.get(of)?.iter().position(|module| module == name);
        self.imports.iter().filter_map(move |((other, from, to), count)| {
            let points_up = *other == of && place(from)? < place(to)?;
            points_up.then_some((from.as_str(), to.as_str(), *count))
        })
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for of in CRATES {
            let circles = self.circles(of);
            writeln!(f, "{of}: {} module circles", circles.len())?;
            for circle in circles {
                writeln!(f, "  {}: {}", circle.len(), circle.into_iter().collect::<Vec<_>>().join(" "))?;
            }
            let upward: Vec<String> =
                self.upward(of).map(|(from, to, count)| format!("{from} -> {to} ({count})")).collect();
            writeln!(f, "{of}: {} upward imports: {}", upward.len(), upward.join(", "))?;
        }
        if let Some((lines, name)) = &self.longest {
            writeln!(f, "longest function: {lines} lines, {name}")?;
        }
        writeln!(f, "unsafe blocks outside of tests: {}", self.unsafe_blocks)?;
        for (owner, files) in &self.owners {
            writeln!(f, "files with methods of {owner}: {}", files.len())?;
        }
        write!(f, "folders that name no clock, task, socket, file or kernel: {}", PURE.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Structure {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        of(&files.collect())
    }

    #[test]
    fn circles_and_imports_that_point_upward_are_found_and_tests_count_nowhere() {
        let found = tree(&[
            ("erdp-user/src/lib.rs", "pub mod a;\npub mod b;\npub mod c;"),
            ("erdp-user/src/a.rs", "use crate::{b::{X, y::Z}, c};"),
            (
                "erdp-user/src/b/mod.rs",
                "fn f() { crate::a::g() }\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more { use crate::c::T; }",
            ),
            ("erdp-user/src/b/tests.rs", "use crate::c::T;"),
            ("erdp-user/src/c.rs", "use crate::types::U;\n#[cfg(test)]\nuse crate::a::V;"),
        ]);
        assert_eq!(found.circles("erdp-user/src/"), [BTreeSet::from(["a", "b"])]);
        let upward: Vec<_> = found.upward("erdp-user/src/").collect();
        assert_eq!(upward, [("a", "b", 2), ("a", "c", 1)]);
    }

    #[test]
    fn what_decides_may_name_no_clock_task_socket_or_kernel() {
        let rows = [
            ("use std::time::{Duration, Instant};", 1),
            ("fn f() { std::time::Instant::now(); }", 1),
            ("use crate::dataplane::aya::AyaDataplane;", 1),
            ("use std::time::Duration;", 0),
            ("#[cfg(test)]\nmod tests { use std::time::Instant; }", 0),
        ];
        for (text, faults) in rows {
            let of = |path: &str| {
                let found = tree(&[(path, text)]).faults;
                found.iter().filter(|fault| fault.starts_with(path)).count()
            };
            assert_eq!(of("erdp-user/src/rib/x.rs"), faults, "{text}");
            assert_eq!(of("erdp-user/src/controller/x.rs"), 0, "{text}");
        }
    }

    #[test]
    fn functions_unsafe_blocks_and_the_files_of_an_owner_are_counted() {
        let found = tree(&[
            ("erdp-user/src/a.rs", "impl Controller {\n fn f() {\n unsafe { g() }\n }\n}\nfn g() {}"),
            ("erdp-user/src/b.rs", "impl Other {}\nimpl Drop for Controller {}"),
            ("erdp-ebpf/src/main.rs", "fn f() { unsafe { a() }; unsafe { b() } }"),
        ]);
        assert_eq!((found.longest, found.unsafe_blocks), (Some((3, "erdp-user/src/a.rs: f".into())), 3));
        assert_eq!(found.owners.values().map(BTreeSet::len).collect::<Vec<_>>(), [1]);
    }
}
