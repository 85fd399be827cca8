use super::*;

/// The fault in `bytes`, which arrive in pieces of `piece` bytes, and the number of its request.
fn find(bytes: &[u8], piece: usize) -> Option<(u32, Fault)> {
    let mut framing = Framing::default();
    let mut found = None;
    for piece in bytes.chunks(piece) {
        found = found.or(framing.read(piece));
    }
    found.map(|Finding { request, fault, .. }| (request, fault))
}

fn check(bytes: &str, expected: Option<(u32, Fault)>) {
    for piece in [1, 2, 3, 7, 50, 10_000] {
        let found = find(bytes.as_bytes(), piece);
        assert_eq!(found, expected, "{bytes:?} in pieces of {piece}");
    }
}

/// Two requests before the tested one, which is therefore the third.
const BEFORE: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n\
    \r\nPOST / HTTP/1.1\nContent-Length: 5\n\nGET /";
const POST: &str = "POST / HTTP/1.1\r\n";

#[test]
fn requests_as_they_should_be_pass() {
    for request in [
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding:CHUNKED \r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n00A  \r\n0123456789\r\n0\r\nx: y\r\nZ:\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Length: 0\r\n\r\n",
        "Transfer-Encodings: gzip\r\nContent-Length-X: 7\r\n\r\n",
        "X: Transfer-Encoding: gzip\r\n\r\n",
    ] {
        // The refusal of one more request shows that the end of the tested one was found.
        let behind = format!("{POST}Transfer-Encoding: gzip\r\n\r\n");
        check(
            &format!("{BEFORE}{POST}{request}{behind}"),
            Some((4, Fault::MalformedCoding)),
        );
    }
}

#[test]
fn codings_other_than_chunked_are_told_apart() {
    for (value, fault) in [
        ("gzip, chunked", Fault::UnknownCoding),
        ("gzip\r\nTransfer-Encoding: chunked", Fault::UnknownCoding),
        ("identity,chunked", Fault::UnknownCoding),
        ("gzip", Fault::MalformedCoding),
        ("chunked, gzip", Fault::MalformedCoding),
        ("chunked, chunked", Fault::MalformedCoding),
        (
            "chunked\r\nTransfer-Encoding: chunked",
            Fault::MalformedCoding,
        ),
        ("gzip, chunked, chunked", Fault::MalformedCoding),
        (", chunked", Fault::MalformedCoding),
        ("chunked,", Fault::MalformedCoding),
        ("\"chunked\"", Fault::MalformedCoding),
        ("chunked;q=1", Fault::MalformedCoding),
        ("x y, chunked", Fault::MalformedCoding),
        ("", Fault::MalformedCoding),
    ] {
        let head = format!("{BEFORE}{POST}Transfer-Encoding: {value}\r\n\r\n0\r\n\r\n");
        check(&head, Some((3, fault)));
    }
}

#[test]
fn two_lengths_are_one_too_many_in_either_order() {
    let [length, chunked] = ["content-length: 4\r\n", "transfer-encoding: chunked\r\n"];
    for (one, other) in [(length, chunked), (chunked, length)] {
        let head = format!("{BEFORE}{POST}{one}{other}\r\n0\r\n\r\n");
        check(&head, Some((3, Fault::TwoLengths)));
    }
}

#[test]
fn a_length_that_is_far_from_its_name_is_refused_when_it_comes_in_pieces() {
    let blanks = " ".repeat(2 * MAX_PIECE);
    let head = format!("{POST}Content-Length:{blanks}5\r\n\r\nhello");
    assert_eq!(find(head.as_bytes(), 10_000), None);
    let found = find(head.as_bytes(), 100).map(|(_, fault)| fault);
    assert_eq!(found, Some(Fault::TwoLengths));
}

#[test]
fn chunks_and_trailers_keep_to_their_grammar() {
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhello!\r\n",
        "5 5\r\nhello\r\n",
        "5;a\u{0}\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "00000000000000005\r\nhello\r\n",
        "0\r\nx: y\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\r\nx: y\rz: 1\r\n\r\n",
        "0\r\n x: y\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\nGET / HTTP/1.1\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let request = format!("{BEFORE}{POST}Transfer-Encoding: chunked\r\n\r\n{body}");
        check(&request, Some((3, Fault::Chunks)));
    }
    let long = format!("0\r\nx: {}\r\n", "y".repeat(MAX_LINE + 200));
    let request = format!("{BEFORE}{POST}Transfer-Encoding: chunked\r\n\r\n{long}");
    assert_eq!(find(request.as_bytes(), 100), Some((3, Fault::Chunks)));
}

#[test]
fn the_bytes_before_a_fault_in_the_body_are_sound() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut framing = Framing::default();
    let found = framing.read(format!("{head}5\r\nhello\r\nx\r\n").as_bytes());
    let sound = head.len() + "5\r\nhello\r\n".len();
    let expected = Finding {
        request: 1,
        fault: Fault::Chunks,
        sound,
    };
    assert_eq!(found, Some(expected));
    assert_eq!(framing.read(b"GET / HTTP/1.1\r\n\r\n"), None);
}

#[test]
fn numbers_are_faults_and_back() {
    for fault in Fault::ALL {
        assert_eq!(Fault::of_number(fault.number()), Some(fault));
    }
    assert_eq!(Fault::of_number(0), None);
}
