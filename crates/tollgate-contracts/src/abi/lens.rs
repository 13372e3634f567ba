//! `PayerLens`: everything about one payer in one `eth_call`, without deploying anything.

alloy_sol_types::sol! {
    /// The constructor reads and returns [`State`](PayerLens::State) in place of code; see [`crate::lens`].
    #[sol(all_derives)]
    interface PayerLens {
        /// What to read about.
        struct Query {
            address token;
            address owner;
            /// Whose allowance: `payTo` of an allowance payment.
            address spender;
            /// The Settler whose counter to read, or zero.
            address settler;
            /// Who receives: the treasury, or `payTo`.
            address payee;
            /// `nonce >> 8`
            uint256 permit2Word;
            bytes32 eip3009Nonce;
        }
        /// A number, if the contract gave one.
        struct Word {
            bool found;
            uint256 value;
        }
        /// A yes or no, if the contract gave one.
        struct Flag {
            bool found;
            bool value;
        }
        /// The state at one block.
        struct State {
            uint256 blockNumber;
            /// Seconds.
            uint256 timestamp;
            uint256 chainId;
            Word balance;
            /// The allowance of `spender`.
            Word allowance;
            /// The allowance of Permit2.
            Word permit2Allowance;
            /// The ERC-2612 nonce.
            Word nonce;
            /// The word of Permit2's nonce bitmap.
            Word permit2Bitmap;
            /// EIP-3009: used or canceled.
            Flag authorizationUsed;
            /// The Settler's counter of token and owner.
            Word charged;
            Flag paused;
            Flag ownerFrozen;
            Flag payeeFrozen;
            uint256 ownerCodeSize;
            /// Zero where there is no account at all.
            bytes32 ownerCodeHash;
            /// Whom the owner's EIP-7702 delegation names, or zero.
            address ownerDelegate;
            uint256 ownerNativeBalance;
            uint256 tokenCodeSize;
        }

        constructor(Query memory query);
    }
}
