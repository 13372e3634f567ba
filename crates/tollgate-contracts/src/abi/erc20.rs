//! ERC-20: what every token of the allow-list has.

alloy_sol_types::sol! {
    /// ERC-20. BEP-20 adds `getOwner()` only.
    #[sol(all_derives)]
    interface IErc20 {
        /// `value` atomic units went from `from` to `to`; minting is from, burning to, the zero address.
        event Transfer(address indexed from, address indexed to, uint256 value);
        /// The allowance of `spender` over `owner`'s tokens is now `value`.
        event Approval(address indexed owner, address indexed spender, uint256 value);

        function name() external view returns (string memory);
        function symbol() external view returns (string memory);
        function decimals() external view returns (uint8);
        function totalSupply() external view returns (uint256);
        function balanceOf(address owner) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function transferFrom(address from, address to, uint256 value) external returns (bool);
    }
}
