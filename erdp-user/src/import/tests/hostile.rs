//! Files that are no answers of Azure's, or are made to hurt: each is an error that names the file and what is understood, and no key gets out.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{FAULTY, SAMPLES, add, ours, parsed};
use crate::import::{FILE_MAX, ImportError, Options, Ours, Seen, View, compare, propose, read};

static OURS: LazyLock<Ours> = LazyLock::new(ours);
const KEY: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn error(text: &[u8]) -> String {
    read("file.json", text, None, &mut Seen::default()).unwrap_err().to_string()
}

#[test]
fn what_is_no_answer_is_an_error_that_names_the_file_and_what_is_understood() {
    let rows: [(&[u8], &str); 16] = [
        (b"", "is no JSON at line 1"),
        (b"{", "is no JSON at line 1, column 1"),
        (b"{} {}", "is no JSON"),
        (b"[]", "is an empty list"),
        (b"{\"value\": []}", "is an empty list"),
        (b"{}", "is no answer that is understood; give what these print: `az network express-route show`"),
        (b"3", "is no answer that is understood"),
        (b"null", "is no answer that is understood"),
        (b"\"text\"", "is no answer that is understood"),
        (b"[[]]", "is no answer that is understood"),
        (b"{\"error\": {\"code\": \"Unauthorized\"}}", "is no answer that is understood"),
        (b"\xff\xfe\x00\xd8", "is neither UTF-8 nor UTF-16"),
        (b"{\"name\": \"\xe9\"}", "is neither UTF-8 nor UTF-16"),
        (b"{\"peeringType\": 1e999}", "is no JSON"),
        (
            b"[{\"neighbor\": \"10.0.0.1\", \"upDown\": \"1d\"}, 3]",
            "an entry of a neighbour is not an object",
        ),
        (b"[{\"network\": \"10.0.0.0/8\", \"nextHop\": null}, {}]", "a route has no network"),
    ];
    for (text, said) in rows {
        let error = error(text);
        assert!(error.starts_with("file.json: ") && error.contains(said), "{said}: {error}");
    }
}

#[test]
fn size_depth_and_counts_are_bounded() {
    let nested =
        |levels: usize| format!("{}1{}", "{\"a\":[".repeat(levels), "]}".repeat(levels)).into_bytes();
    assert!(error(&nested(20)).contains("nested deeper than 24 levels"));
    assert!(error(&nested(100_000)).contains("nested deeper than 24 levels"));
    assert!(error(&"[".repeat(7_000_000).into_bytes()).contains("nested deeper"));
    let long = vec![b' '; usize::try_from(FILE_MAX).unwrap() + 1];
    assert!(error(&long).contains("is longer than 8388608 bytes"));
    let many =
        |entry: &str, count: usize| format!("[{}{entry}]", format!("{entry},").repeat(count)).into_bytes();
    assert!(
        error(&many("{\"peeringType\":\"AzurePrivatePeering\"}", 256))
            .contains("has 257 peerings, and at most 256")
    );
    assert!(error(&many("{\"network\":\"10.0.0.0/8\",\"nextHop\":\"\"}", 40_000)).contains("40001 routes"));
    let mut seen = Seen::default();
    let file = b"{\"primarybytesIn\": 1}";
    assert!((0..256).all(|_| read("file.json", file, None, &mut seen).is_ok()));
    assert!(
        read("file.json", file, None, &mut seen).unwrap_err().to_string().contains("more than 256 files")
    );
}

/// Every place of a value at which there is no list and no object.
fn leaves(value: &Value, path: &str, list: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), list));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| leaves(value, &format!("{path}/{at}"), list));
        }
        _ => list.push(path.to_owned()),
    }
}

/// Everything that can be printed of a set of files.
fn printed(files: &[(&str, String)]) -> String {
    let seen = files.iter().try_fold(Seen::default(), |mut seen, (name, text)| {
        add(name, text.as_bytes(), &mut seen).map(|()| seen)
    });
    let view = match seen.and_then(View::of) {
        Ok(view) => view,
        Err(error) => return error.to_string(),
    };
    let report = compare(&view, &OURS);
    let proposal = match propose(&view, &Options::default()) {
        Ok(proposal) => {
            parsed(&proposal.toml);
            format!("{}{}", proposal.toml, proposal.notes.join("\n"))
        }
        Err(error) => error.to_string(),
    };
    format!("{view:?}\n{}\n{}\n{proposal}", report.text(), report.json())
}

/// The samples with a value at each place in turn; of several values each place gets the next one.
fn with_everywhere(values: &[Value], mut check: impl FnMut(&str, String)) {
    let mut values = values.iter().cycle();
    for (at, (name, text)) in SAMPLES.iter().chain(&FAULTY).enumerate() {
        let original: Value = serde_json::from_str(text).unwrap();
        let mut paths = Vec::new();
        leaves(&original, "", &mut paths);
        for path in paths {
            let mut changed = original.clone();
            *changed.pointer_mut(&path).unwrap() = values.next().unwrap().clone();
            let set = if at < SAMPLES.len() { &SAMPLES[..] } else { &FAULTY[..] };
            let files: Vec<(&str, String)> = set
                .iter()
                .map(|(other, text)| {
                    (*other, if other == name { changed.to_string() } else { (*text).to_owned() })
                })
                .collect();
            check(&format!("{name}{path}"), printed(&files));
        }
    }
}

#[test]
fn a_service_key_in_any_place_is_printed_nowhere_whole() {
    let spelled = [json!(KEY.to_uppercase()), json!(format!("a {KEY}\n{KEY}")), json!(KEY.replace('-', ""))];
    for keys in [&[json!(KEY)], &spelled[..]] {
        with_everywhere(keys, |place, printed| {
            let lower = printed.to_lowercase();
            for part in ["0f8fad5b", "d9cb-469f", "70867728", "sample-shared-key", "5d0c7a86"] {
                assert!(!lower.contains(part), "{place}: {part} is in {printed}");
            }
        });
    }
    // Nor in an error about a file that is called so, or a field's name.
    let named = read(KEY, b"{}", None, &mut Seen::default()).unwrap_err().to_string();
    assert!(named.starts_with("(hidden)950e: "), "{named}");
    let error = "x/y/z/0".parse::<crate::import::Place>().unwrap_err();
    assert!(error.contains("contoso/private/primary"), "{error}");
    let error = format!("{KEY}/nothing").parse::<crate::import::Place>().unwrap_err();
    assert!(!error.contains("0f8fad5b"), "{error}");
}

#[test]
fn values_of_other_types_huge_ones_and_control_characters_are_errors_or_escaped_at_any_place() {
    let values = [
        json!(u64::MAX),
        json!(-1),
        json!(1e300),
        json!(true),
        json!([1]),
        json!({"a": 1}),
        json!("\u{1b}[2J\u{202e}\nname = \"x\"\n[[circuit]]\u{0}"),
        json!("x".repeat(100_000)),
        json!("10.255.0.9999"),
        json!(null),
    ];
    // Two or three kinds of value at each place: all of them at all places take as long as all other tests of this crate.
    for values in values.chunks(4) {
        with_everywhere(values, |place, printed| {
            let is_printable = |c: char| c == '\n' || !c.is_control();
            assert!(
                printed.chars().all(is_printable) && !printed.contains('\u{202e}'),
                "{place}: {printed:?}"
            );
            assert!(!printed.contains("xxxxxxxxxx".repeat(20).as_str()), "{place}: too long");
        });
    }
}

#[test]
fn a_field_of_another_type_is_named_with_its_file_and_its_value_is_not_printed() {
    for (from, to, said) in [
        (
            "\"vlanId\": 100",
            "\"vlanId\": \"hunter2\"",
            "vlanId of a peering is not a whole number in its range",
        ),
        ("\"vlanId\": 100", "\"vlanId\": 70000", "vlanId of a peering is not a whole number in its range"),
        ("\"peerASN\": 3333", "\"peerASN\": 4294967296", "peerASN of a peering is not a whole number"),
        ("\"10.255.0.0/30\"", "\"hunter2\"", "primaryPeerAddressPrefix of a peering is not a prefix"),
        (
            "\"10.255.0.0/30\"",
            "\"fd00::/126\"",
            "primaryPeerAddressPrefix of a peering is not a prefix of its family",
        ),
        (
            "\"serviceKey\": \"",
            "\"serviceKey\": [\"hunter2\"], \"x\": \"",
            "serviceKey of a circuit is not a text",
        ),
        ("\"sku\": {", "\"sku\": \"hunter2\", \"x\": {", "sku of a circuit is not an object"),
    ] {
        let text = SAMPLES[0].1.replacen(from, to, 1);
        let error = error(text.as_bytes());
        assert!(
            error.contains(said) && error.starts_with("file.json: ") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn a_file_of_powershells_is_read_and_a_mark_at_the_begin_is_no_text() {
    let text = SAMPLES[0].1;
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let marked = [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat();
    for bytes in [utf16, marked] {
        let mut seen = Seen::default();
        read("file.json", &bytes, None, &mut seen).unwrap();
        assert_eq!(seen.circuits[0].name.as_deref(), Some("contoso-ams"));
    }
}

#[test]
fn one_answer_of_each_kind_is_recognised_whatever_it_is_called() {
    for (name, text) in SAMPLES {
        let mut seen = Seen::default();
        read("x", text.as_bytes(), None, &mut seen).unwrap();
        let count = seen.circuits.len()
            + seen.peerings.len()
            + seen.others.ports.len()
            + seen.others.tables.len()
            + seen.others.stats.len()
            + seen.others.tests.len()
            + seen.others.resiliency.len();
        assert_eq!(count, 1, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_edit_of_a_file_is_read_or_refused_and_a_proposal_is_accepted(
        file in 0..SAMPLES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut bytes = SAMPLES[file].1.as_bytes().to_vec();
        for (at, octet, how) in edits {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = octet,
                1 => bytes.insert(at, octet),
                _ => drop(bytes.remove(at)),
            }
        }
        let mut seen = Seen::default();
        let mut files = SAMPLES.iter().enumerate();
        let read: Result<(), ImportError> = files.try_for_each(|(number, (name, text))| {
            add(name, if number == file { bytes.as_slice() } else { text.as_bytes() }, &mut seen)
        });
        if let Ok(view) = read.and_then(|()| View::of(seen)) {
            prop_assert!(!compare(&view, &OURS).text().contains("0f8fad5b"));
            if let Ok(proposal) = propose(&view, &Options::default()) {
                parsed(&proposal.toml);
            }
        }
    }
}
