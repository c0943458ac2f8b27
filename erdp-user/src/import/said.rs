//! Texts of foreign files, made fit for a terminal, a report and a configuration the moment they are read: what looks like a key is masked, what a
//! terminal would obey or not show is escaped, and long ones are cut. So nothing that is printed later needs a second look.

/// Longer texts are cut: names in Azure have at most 80 characters, and a name in a configuration 128 bytes.
const LONGEST: usize = 96;
/// So many characters are looked at. A key has 36 characters and is shown as 12, so that no key that is cut here gets into the text.
const LOOKED_AT: usize = 512;
/// How many characters at the end of a key are shown, as in `erdp config show`.
const SHOWN: usize = 4;

/// The text as it is printed.
pub fn clean(text: &str) -> String {
    let head: String = text.chars().take(LOOKED_AT).collect();
    let mut clean = String::new();
    for c in without_keys(&head).chars() {
        let escaped: String =
            if is_unseen(c) { c.escape_unicode().collect() } else { std::iter::once(c).collect() };
        if clean.len() + escaped.len() > LONGEST {
            return clean + "...";
        }
        clean += &escaped;
    }
    clean
}

/// Characters that a terminal obeys or does not show, those that change the direction of a line among them.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Every GUID of the text, which a service key and an authorization key are, with its end only.
fn without_keys(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match guid_len(rest.as_bytes()) {
            // A GUID is of ASCII characters only.
            Some(len) => {
                masked += "(hidden)";
                masked += &rest[len - SHOWN..len];
                rest = &rest[len..];
            }
            None => {
                masked.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    masked
}

/// The length of the GUID that begins here, written with its hyphens or without.
fn guid_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (group, len) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 && bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        let digits = bytes.get(at..at + len)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        at += len;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_printed_has_no_key_no_control_character_and_an_end() {
        for (text, shown) in [
            ("contoso-ams", "contoso-ams"),
            ("Zürich", "Zürich"),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", "(hidden)950e"),
            ("key 0F8FAD5B-D9CB-469F-A165-70867728950E!", "key (hidden)950E!"),
            ("x0f8fad5bd9cb469fa16570867728950ey", "x(hidden)950ey"),
            ("\u{1b}[2Jred\nline\u{202e}", "\\u{1b}[2Jred\\u{a}line\\u{202e}"),
            ("", ""),
        ] {
            assert_eq!(clean(text), shown);
        }
        let long = clean(&"ä".repeat(1_000_000));
        assert!(long.len() <= LONGEST + 3 && long.ends_with("..."), "{long}");
    }

    proptest! {
        #[test]
        fn a_key_is_shown_whole_nowhere_in_a_text(before in ".{0,600}", after in ".{0,50}") {
            let key = "0f8fad5b-d9cb-469f-a165-70867728950e";
            let shown = clean(&format!("{before}{key}{after}"));
            prop_assert!(!shown.contains("d9cb-469f") && !shown.contains("7086772"), "{shown}");
            prop_assert!(shown.len() <= LONGEST + 3 && !shown.chars().any(is_unseen), "{shown}");
        }
    }
}
