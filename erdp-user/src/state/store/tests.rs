//! What is read back, what is not, and that nothing in the file does more than be refused.

use std::{
    cell::Cell,
    os::unix::fs::{MetadataExt, chown, symlink},
};

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};

use super::*;
use crate::{
    config::CircuitChange,
    control::File,
    kernel::scratch::Scratch,
    state::{AWAY_MAX, AwayPeer, Configured, HeldSession, resolve},
};

/// How many files are tried.
const FILES: u32 = 10_000;

fn kept(text: &str) -> Kept {
    let ends = ([198, 18, 0, 1].into(), [198, 18, 0, 2].into());
    Kept {
        holds: vec![HeldSession { ends, text: text.into(), since: 7 }],
        away: vec![AwayPeer { ends, count: 2, until: 9 }],
        configured: None,
        events: Vec::new(),
    }
}

fn found(path: &Path) -> Found {
    Store::open(path).expect("a store").1
}

#[test]
fn what_was_kept_is_there_after_the_process() {
    let scratch = Scratch::new("store");
    let path = scratch.path().join("state");
    let (store, empty) = Store::open(&path).expect("a store");
    assert_eq!(empty, Found::default());
    (0..20).for_each(|number| store.save(kept(&number.to_string()).into(), None));
    assert!(store.flush(kept("last").into(), Duration::from_secs(20)));
    drop(store);
    let again = found(&path);
    assert_eq!((again.kept, again.set_aside), (kept("last"), None));
    assert_eq!(again.process, Some(std::process::id()));
    let mode = |name: &str| fs::metadata(path.join(name)).expect("it is there").mode() & 0o777;
    assert_eq!((mode(""), mode(NAME)), (0o700, 0o600));
}

#[test]
fn what_cannot_be_used_is_set_aside_and_said_and_the_start_goes_on() {
    let scratch = Scratch::new("store-bad");
    let path = scratch.folder("state");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
    let good = String::from_utf8(text(&kept("a"))).expect("text");
    let half = &good[..good.len() / 2];
    let newer = good.replace("\"version\":1", "\"version\":2");
    let wrong = good.replace("\"since\":7", "\"since\":\"yesterday\"");
    for (bytes, why) in [
        ("", "EOF"),
        (half, "EOF"),
        ("[]", "invalid"),
        (&newer, "version 2"),
        (&wrong, "invalid type"),
        ("{\"version\":1}", "missing field"),
    ] {
        fs::write(path.join(NAME), bytes).expect("a file");
        fs::set_permissions(path.join(NAME), fs::Permissions::from_mode(0o600)).expect("its mode");
        let found = found(&path);
        let said = found.set_aside.expect("it is said");
        assert!(said.contains(why) && found.kept == Kept::default(), "{bytes}: {said}");
        assert!(!path.join(NAME).exists());
        assert_eq!(fs::read_to_string(path.join(SET_ASIDE)).expect("it is there"), bytes);
    }
}

#[test]
fn a_later_release_may_keep_more() {
    let text =
        String::from_utf8(text(&kept("a"))).expect("text").replace("\"holds\"", "\"unheard\":[1],\"holds\"");
    assert_eq!(read(text.as_bytes()), Ok(kept("a")));
}

#[test]
fn what_another_user_could_have_written_is_not_read() {
    let scratch = Scratch::new("store-hostile");
    let (path, outside) = (scratch.folder("state"), scratch.folder("outside"));
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    mode(&path, 0o777);
    assert!(Store::open(&path).is_err_and(|error| error.to_string().contains("may write")));
    mode(&path, 0o700);
    let theirs = outside.join("theirs");
    fs::write(&theirs, text(&kept("a"))).expect("a file");
    mode(&theirs, 0o600);
    let refused = |why: &str| {
        let said = found(&path).set_aside.expect("it is said");
        assert!(said.contains(why), "{said}");
    };
    symlink(&theirs, path.join(NAME)).expect("a link");
    refused("no regular file");
    assert!(theirs.exists(), "only the link was moved");
    nix::unistd::mkfifo(&path.join(NAME), nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
    refused("no regular file");
    let long = fs::File::create(path.join(NAME)).expect("a file");
    mode(&path.join(NAME), 0o600);
    long.set_len(BYTES_MAX + 1).expect("a file with a hole");
    refused("longer than");
    fs::remove_file(path.join(SET_ASIDE)).expect("it is there");
    fs::create_dir(path.join(NAME)).expect("a folder");
    refused("no regular file");
    fs::remove_dir(path.join(SET_ASIDE)).expect("it is there");
    let copy = |permissions| {
        fs::copy(&theirs, path.join(NAME)).expect("a file");
        mode(&path.join(NAME), permissions);
    };
    copy(0o620);
    refused("other users may write");
    if own_user() == 0 {
        copy(0o600);
        chown(path.join(NAME), Some(64_999), None).expect("root");
        refused("another user's");
        chown(&path, Some(64_999), None).expect("root");
        assert!(Store::open(&path).is_err_and(|error| error.to_string().contains("another user's")));
    }
    assert!(Store::open(&scratch.path().join("missing/state")).is_err());
}

/// A file as a daemon writes it, with something of everything.
fn whole() -> serde_json::Value {
    let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    let change = CircuitChange { bandwidth: Some("2G".into()), ..CircuitChange::default() };
    let configured = Configured {
        file: own(),
        applied: Some(file("/tmp/other.toml", "weight = 7")),
        settings: vec![("x".into(), change)],
        unconfirmed: Some("/tmp/third.toml".into()),
    };
    let kept = Kept { configured: Some(configured), ..kept("rack 7 moves") };
    serde_json::from_slice(&text(&kept)).expect("JSON")
}

fn own() -> File {
    File { path: "/etc/erdp/erdp.toml".into(), text: "one".into() }
}

/// Places of values in a file, by their pointers (RFC 6901).
fn pointers(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        serde_json::Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), found));
        }
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| pointers(field, &format!("{at}/{name}"), found));
        }
        _ => {}
    }
}

/// Files with up to four values that somebody else has chosen, and in every third one a few bytes.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let whole = whole();
    let mut places = Vec::new();
    pointers(&whole, "", &mut places);
    let deep = (0..200).fold(serde_json::json!(null), |inner, _| serde_json::json!([inner]));
    let values = [
        serde_json::json!(null),
        serde_json::json!(true),
        serde_json::json!(0),
        serde_json::json!(-1),
        serde_json::json!(u32::MAX),
        serde_json::json!(u64::MAX),
        serde_json::json!(1e300),
        serde_json::json!(""),
        serde_json::json!("\u{1b}[2J\nerdp: all is well\u{0}"),
        serde_json::json!("../../../../etc/shadow"),
        serde_json::json!("x".repeat(100_000)),
        serde_json::json!("::1"),
        serde_json::json!("255.255.255.256"),
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!(["::", "127.0.0.1"]),
        deep,
        whole.clone(),
    ];
    let changes = prop::collection::vec((select(places), select(values.to_vec())), 0..4);
    let damage = prop::collection::vec((any::<Index>(), any::<u8>()), 1..4);
    let cut = prop::option::weighted(0.1, any::<Index>());
    (changes, prop::option::weighted(0.33, damage), cut).prop_map(move |(changes, damage, cut)| {
        let mut value = whole.clone();
        for (place, new) in changes {
            if let Some(old) = value.pointer_mut(&place) {
                *old = new;
            }
        }
        let mut bytes = value.to_string().into_bytes();
        for (at, byte) in damage.into_iter().flatten() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |at| at.index(bytes.len())));
        bytes
    })
}

#[test]
fn whatever_a_state_file_says_it_is_understood_whole_or_set_aside_with_a_reason_on_one_line() {
    let scratch = Scratch::new("store-mutated");
    let path = scratch.folder("state");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
    let folder = Folder::open(&path).expect("a folder");
    let (tried, good) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: FILES, failure_persistence: None, ..Config::default() });
    runner
        .run(&file(), |bytes| {
            let read = read(&bytes);
            tried.set(tried.get() + 1);
            good.set(good.get() + u32::from(read.is_ok()));
            if let Err(why) = &read {
                prop_assert!(!why.contains(char::is_control) && why.len() < 1_000, "{}", why);
            }
            // Some by way of the disk, which takes its time.
            if tried.get() % 50 == 0 {
                fs::write(path.join(NAME), &bytes).expect("a file");
                fs::set_permissions(path.join(NAME), fs::Permissions::from_mode(0o600)).expect("its mode");
                let Found { kept, process, set_aside } = load(&folder);
                prop_assert_eq!(&kept, &read.clone().unwrap_or_default());
                prop_assert_eq!(process.is_some(), read.is_ok());
                prop_assert_eq!(set_aside.is_none(), read.is_ok());
                prop_assert_eq!(path.join(NAME).exists(), read.is_ok());
                let there = path.join(if read.is_ok() { NAME } else { SET_ASIDE });
                prop_assert_eq!(fs::read(there).expect("it is there"), bytes);
            }
            let kept = read.unwrap_or_default();
            prop_assert!(kept.away.iter().all(|away| away.left(0) <= AWAY_MAX));
            let resolved = resolve(kept.configured.as_ref(), &own());
            prop_assert!(resolved.notes.iter().all(|note| !note.contains(char::is_control)));
            let applied = kept.configured.and_then(|it| it.applied);
            prop_assert!(resolved.run == own() || Some(resolved.run) == applied);
            Ok(())
        })
        .expect("no file does more");
    println!("{FILES} files, {} understood", good.get());
    assert!((FILES / 10..FILES).contains(&good.get()), "the files say nothing");
}
