//! The code of our contracts, as `cargo xtask contracts` compiled it; the hex is decoded at compile time.

use alloy_primitives::{B256, Bytes, keccak256};

/// One compiled contract.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    name: &'static str,
    creation: &'static [u8],
    runtime: &'static [u8],
}

impl Contract {
    /// The contract's name in the source.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The init code, to which the ABI-encoded arguments of the constructor are appended.
    #[must_use]
    pub const fn creation(&self) -> &'static [u8] {
        self.creation
    }

    /// The code that stands on the chain. Immutables are zero in it: a `Settler` of yours is what
    /// [`settler::runtime`](crate::settler::runtime) gives.
    #[must_use]
    pub const fn runtime(&self) -> &'static [u8] {
        self.runtime
    }

    /// [`creation`](Self::creation) with the ABI-encoded arguments of the constructor behind it.
    #[must_use]
    pub fn init_code(&self, arguments: &[u8]) -> Bytes {
        [self.creation, arguments].concat().into()
    }

    /// [`runtime`](Self::runtime) as `Bytes`, without a copy.
    #[must_use]
    pub const fn runtime_bytes(&self) -> Bytes {
        Bytes::from_static(self.runtime)
    }

    /// What `EXTCODEHASH` and `eth_getCode` give for a contract without immutables: keccak256 of its runtime code.
    #[must_use]
    pub fn runtime_hash(&self) -> B256 {
        keccak256(self.runtime)
    }
}

macro_rules! contract {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        pub static $constant: Contract = {
            const ARTIFACT: &str = include_str!(concat!("../artifacts/", $name, ".json"));
            const CREATION: [u8; hex_len(ARTIFACT, "creation")] = hex(ARTIFACT, "creation");
            const RUNTIME: [u8; hex_len(ARTIFACT, "runtime")] = hex(ARTIFACT, "runtime");
            Contract { name: $name, creation: &CREATION, runtime: &RUNTIME }
        };
    )*

        /// All of them.
        pub static ALL: &[&Contract] = &[$(&$constant),*];
    };
}

contract! {
    /// Settles what payers signed, to one treasury. Has immutables: see [`crate::settler`].
    SETTLER = "Settler";
    /// Reads a payer's state within one `eth_call`: see [`crate::lens`].
    PAYER_LENS = "PayerLens";
    /// x402's `exact` proxy, for development chains.
    EXACT_PROXY = "ExactProxy";
    /// x402's `upto` proxy, for development chains.
    UPTO_PROXY = "UptoProxy";
    /// The part of Permit2 that x402 uses, for development chains.
    SIGNATURE_TRANSFER = "SignatureTransfer";
    /// A token shaped like USD1, for development chains.
    TEST_USD1 = "TestUsd1";
    /// A token shaped like Binance-Peg USDT, for development chains.
    TEST_USDT = "TestUsdt";
}

/// Where the string of this key begins and ends in the artifact.
const fn find(artifact: &str, key: &str) -> (usize, usize) {
    let (text, key) = (artifact.as_bytes(), key.as_bytes());
    let mut at = 0;
    while at + key.len() + 5 < text.len() {
        // "key": "
        if text[at] == b'"' && text[at + key.len() + 1] == b'"' && text[at + key.len() + 2] == b':'
        {
            let mut matched = 0;
            while matched < key.len() && text[at + 1 + matched] == key[matched] {
                matched += 1;
            }
            if matched == key.len() {
                let start = at + key.len() + 5;
                let mut end = start;
                while text[end] != b'"' {
                    end += 1;
                }
                return (start, end);
            }
        }
        at += 1;
    }
    panic!("the artifact has no such key")
}

const fn hex_len(artifact: &str, key: &str) -> usize {
    let (start, end) = find(artifact, key);
    assert!((end - start).is_multiple_of(2), "half a byte");
    (end - start) / 2
}

const fn hex<const N: usize>(artifact: &str, key: &str) -> [u8; N] {
    let (start, _) = find(artifact, key);
    let text = artifact.as_bytes();
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = nibble(text[start + 2 * at]) << 4 | nibble(text[start + 2 * at + 1]);
        at += 1;
    }
    bytes
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("not a digit of lower-case hex"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_const_decoder_reads_what_the_artifact_says() {
        const ARTIFACT: &str = "{\n  \"abi\": [{\"name\":\"creation\"}],\n  \"creation\": \"60ff\",\n  \"runtime\": \"0a\"\n}\n";
        const CREATION: [u8; hex_len(ARTIFACT, "creation")] = hex(ARTIFACT, "creation");
        const RUNTIME: [u8; hex_len(ARTIFACT, "runtime")] = hex(ARTIFACT, "runtime");
        assert_eq!((CREATION, RUNTIME), ([0x60, 0xff], [0x0a]));
    }

    #[test]
    fn every_contract_fits_what_a_chain_takes() {
        for contract in ALL {
            assert!(
                contract.creation().len() <= 2 * 24_576,
                "{} (EIP-3860)",
                contract.name()
            );
            assert!(
                contract.runtime().len() <= 24_576,
                "{} (EIP-170)",
                contract.name()
            );
        }
    }
}
