//! The committed corpora of the fuzz targets, as ordinary tests: an input that once failed fails here, without a fuzzer.
#![expect(clippy::print_stdout, reason = "shown only when a test fails")]

#[path = "../../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    reason = "the crate of the fuzz targets, taken in as a module"
)]
mod fuzz;

use std::fs;
use std::path::Path;

fn run(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        // the name is shown when the check fails
        println!("{}", path.display());
        check(&input);
        // whatever is cut off must not hurt either
        (0..input.len())
            .step_by(input.len().div_ceil(200))
            .for_each(|end| check(&input[..end]));
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn bodies_of_facilitators() {
    run("facilitator_body", fuzz::facilitator_body::check);
}

#[test]
fn states_of_payments() {
    run("payment_body", fuzz::payment_body::check);
}

#[test]
fn payment_headers() {
    run("payment_header", fuzz::payment_header::check);
}

#[test]
fn bodies_of_a_402() {
    run("required_body", fuzz::required_body::check);
}

#[test]
fn event_streams() {
    run("sse_decoder", fuzz::sse_decoder::check);
}

#[test]
fn request_bodies() {
    run("request_body", fuzz::request_body::check);
}

#[test]
fn upstream_streams() {
    run("upstream_stream", fuzz::upstream_stream::check);
}
