//! ROUTE-REFRESH of every length (RFC 2918, RFC 5291, RFC 7313).

use super::*;

const V4: Family = Family::Ipv4Unicast;

/// What a ROUTE-REFRESH with this body means.
fn meaning(body: &[u8], enhanced_refresh: bool) -> Result<Option<Refresh>, (u8, u8, usize)> {
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&(body.len() as u16 + 19).to_be_bytes());
    message.push(5);
    message.extend_from_slice(body);
    assert_eq!(message_length(&message).unwrap(), Some(message.len()));
    match decode(&message, &Context { enhanced_refresh, ..context() }) {
        Ok(Message::RouteRefresh(refresh)) => Ok(refresh),
        Ok(other) => panic!("{other:?}"),
        Err(WireError { reaction: Reaction::Reset(it), .. }) => Err((it.code, it.subcode, it.data.len())),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn rfc5291_a_filter_that_was_not_agreed_on_is_ignored_and_rfc7313_5_only_a_marks_length_is_its_error() {
    let request = Some(Refresh::Request(V4));
    let begin = Some(Refresh::Mark(RefreshMark::Begin(V4)));
    /// Name, body, and what it means without and with marks agreed on.
    type Row<'a> = (&'a str, Vec<u8>, [Result<Option<Refresh>, (u8, u8, usize)>; 2]);
    let rows: Vec<Row<'_>> = vec![
        ("a request", vec![0, 1, 0, 1], [Ok(request); 2]),
        ("a filter, cut", vec![0, 1, 0, 1, 1, 0x40, 0xff, 0xff, 0], [Ok(request); 2]),
        ("a filter, whole", vec![0, 1, 0, 1, 1, 0x40, 0, 1, 0x80], [Ok(request); 2]),
        ("a filter to be used later", vec![0, 1, 0, 1, 2], [Ok(request); 2]),
        ("an octet more", vec![0, 1, 0, 1, 0], [Ok(request); 2]),
        ("very long", [vec![0, 1, 0, 1], vec![0; 60_000]].concat(), [Ok(request); 2]),
        ("a family of others", vec![0, 25, 0, 70], [Ok(None); 2]),
        ("a family of others with a filter", vec![0, 25, 0, 70, 1, 2], [Ok(None); 2]),
        ("begin", vec![0, 1, 1, 1], [Ok(None), Ok(begin)]),
        ("end", vec![0, 1, 2, 1], [Ok(None), Ok(Some(Refresh::Mark(RefreshMark::End(V4))))]),
        ("begin, too long", vec![0, 1, 1, 1, 0], [Ok(None), Err((7, 1, 24))]),
        ("end, too long", vec![0, 1, 2, 1, 0, 0], [Ok(None), Err((7, 1, 25))]),
        ("begin, too short", vec![0, 1, 1], [Err((1, 2, 2)), Err((7, 1, 22))]),
        ("a subtype that nobody knows", vec![0, 1, 9, 1], [Ok(None); 2]),
        ("that, too long", vec![0, 1, 9, 1, 5, 5], [Ok(None); 2]),
        ("reserved", vec![0, 1, 255, 1], [Ok(None); 2]),
        ("a request, too short", vec![0, 1, 0], [Err((1, 2, 2)); 2]),
        ("half a family", vec![0], [Err((1, 2, 2)); 2]),
        ("nothing", vec![], [Err((1, 2, 2)); 2]),
    ];
    for (name, body, expected) in rows {
        for (enhanced, expected) in [false, true].into_iter().zip(expected) {
            assert_eq!(meaning(&body, enhanced), expected, "{name}, marks agreed on: {enhanced}");
        }
    }
}
