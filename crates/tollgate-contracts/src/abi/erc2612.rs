//! ERC-2612: an allowance granted by a signature.

alloy_sol_types::sol! {
    /// ERC-2612. A later permit *sets* the allowance, it does not add to it.
    #[sol(all_derives)]
    interface IErc2612 {
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
        /// How many permits of `owner` were used; the next one must carry this number.
        function nonces(address owner) external view returns (uint256);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
    }
}
