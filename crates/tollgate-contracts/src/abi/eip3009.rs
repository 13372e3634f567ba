//! EIP-3009: one transfer by a signature, in the `(v, r, s)` form that all BSC tokens with EIP-3009 have.

alloy_sol_types::sol! {
    /// EIP-3009, without the `bytes signature` overloads: USD1 has none.
    #[sol(all_derives)]
    interface IEip3009 {
        /// The authorization was used, by whoever sent it.
        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        /// The authorization was canceled by its author.
        event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);

        /// Moves `value` if `validAfter < block.timestamp < validBefore` (seconds) and the nonce is unused.
        function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        /// Whether the nonce was used or canceled.
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
    }
}
