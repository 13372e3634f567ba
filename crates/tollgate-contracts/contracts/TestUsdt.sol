// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// A test token shaped like Binance-Peg USDT on BSC: a plain BEP-20 with 18 decimals, nothing by signature.
///
/// It can be put into a genesis by its runtime code and storage: there are no immutables, and the slots are fixed.
contract TestUsdt {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    // The slots, in this order, are known to those who write a genesis.
    mapping(address owner => uint256) public balanceOf; // 0
    mapping(address owner => mapping(address spender => uint256)) public allowance; // 1
    uint256 public totalSupply; // 2
    address public getOwner; // 3

    string public constant name = "Tether USD";
    string public constant symbol = "USDT";
    uint8 public constant decimals = 18;

    constructor(address owner) {
        getOwner = owner;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _transfer(msg.sender, to, value);
        return true;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        _transfer(from, to, value);
        uint256 allowed = allowance[from][msg.sender];
        require(allowed >= value, "BEP20: transfer amount exceeds allowance");
        // Without an exception for "unlimited": Binance-Peg USDT counts down from the highest number as well.
        unchecked {
            allowance[from][msg.sender] = allowed - value;
        }
        emit Approval(from, msg.sender, allowed - value);
        return true;
    }

    function mint(uint256 value) external returns (bool) {
        require(msg.sender == getOwner, "Ownable: caller is not the owner");
        totalSupply += value;
        unchecked {
            balanceOf[msg.sender] += value;
        }
        emit Transfer(address(0), msg.sender, value);
        return true;
    }

    function _transfer(address from, address to, uint256 value) private {
        require(to != address(0), "BEP20: transfer to the zero address");
        uint256 balance = balanceOf[from];
        require(balance >= value, "BEP20: transfer amount exceeds balance");
        unchecked {
            balanceOf[from] = balance - value;
            balanceOf[to] += value; // all balances together are the total supply, which did not overflow
        }
        emit Transfer(from, to, value);
    }
}
