//! The book's programs are the ones that are compiled, and its examples are true.

use tollgate_devchain::{DEV_ACCOUNTS, DEV_SETTLER};
use tollgate_eip712::{Signed, UsageReceipt};

#[test]
fn the_buyer_of_the_book_is_the_example() {
    let page = include_str!("../../../docs/client.md");
    let example = include_str!("../examples/buy.rs");
    assert!(
        page.contains(&format!("```rust\n{example}```")),
        "copy examples/buy.rs into the Rust block of docs/client.md"
    );
}

const WIRE: &str = include_str!("../../../docs/wire.md");

#[test]
fn the_typed_data_of_the_book_is_what_foreign_clients_check_receipts_by() {
    let script = include_str!("../../../xtask/conformance/common/receipt.mjs");
    assert!(
        WIRE.contains(&format!("```js\n{script}```")),
        "copy xtask/conformance/common/receipt.mjs into the JavaScript of docs/wire.md"
    );
}

#[test]
fn the_signed_receipt_of_the_book_is_signed_by_the_operator_of_the_development_chain() {
    #[derive(serde::Deserialize)]
    struct Told {
        receipt: Signed<UsageReceipt>,
    }
    let mut blocks = WIRE.split("```json\n").skip(1);
    let block = blocks
        .find(|block| block.starts_with(r#"{"receipt""#))
        .unwrap();
    let (json, _) = block.split_once("```").unwrap();
    let Told { receipt } = serde_json::from_str(json).unwrap();
    assert_eq!(receipt.signer(), Ok(DEV_ACCOUNTS[7].address));
    assert_eq!(receipt.payload.pay_to, DEV_SETTLER);
    assert!(receipt.payload.counter_holds_amount());
}
