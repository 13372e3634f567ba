//! The book's programs are the ones that are compiled.

#[test]
fn the_buyer_of_the_book_is_the_example() {
    let page = include_str!("../../../docs/client.md");
    let example = include_str!("../examples/buy.rs");
    assert!(
        page.contains(&format!("```rust\n{example}```")),
        "copy examples/buy.rs into the Rust block of docs/client.md"
    );
}
