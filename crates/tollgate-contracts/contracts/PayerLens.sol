// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IErc20, IErc2612, IEip3009, IPermit2, IStablecoin, ISettler} from "./interfaces.sol";

/// Everything about one payer at one block. Never deployed: an `eth_call` without `to` runs the constructor, which
/// returns the state where the code would be. What a contract does not answer is marked as not found; nothing that
/// it does makes the whole fail.
contract PayerLens {
    struct Query {
        address token;
        address owner;
        address spender;
        address settler;
        address payee;
        uint256 permit2Word;
        bytes32 eip3009Nonce;
    }

    struct Word {
        bool found;
        uint256 value;
    }

    struct Flag {
        bool found;
        bool value;
    }

    struct State {
        uint256 blockNumber;
        uint256 timestamp;
        uint256 chainId;
        Word balance;
        Word allowance;
        Word permit2Allowance;
        Word nonce;
        Word permit2Bitmap;
        Flag authorizationUsed;
        Word charged;
        Flag paused;
        Flag ownerFrozen;
        Flag payeeFrozen;
        uint256 ownerCodeSize;
        bytes32 ownerCodeHash;
        address ownerDelegate;
        uint256 ownerNativeBalance;
        uint256 tokenCodeSize;
    }

    address private constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;
    uint256 private constant GAS = 200_000;

    constructor(Query memory q) {
        State memory state;
        state.blockNumber = block.number;
        state.timestamp = block.timestamp;
        state.chainId = block.chainid;
        state.balance = _word(q.token, abi.encodeCall(IErc20.balanceOf, (q.owner)));
        state.allowance = _word(q.token, abi.encodeCall(IErc20.allowance, (q.owner, q.spender)));
        state.permit2Allowance = _word(q.token, abi.encodeCall(IErc20.allowance, (q.owner, PERMIT2)));
        state.nonce = _word(q.token, abi.encodeCall(IErc2612.nonces, (q.owner)));
        state.permit2Bitmap = _word(PERMIT2, abi.encodeCall(IPermit2.nonceBitmap, (q.owner, q.permit2Word)));
        state.authorizationUsed =
            _flag(q.token, abi.encodeCall(IEip3009.authorizationState, (q.owner, q.eip3009Nonce)));
        if (q.settler != address(0)) {
            state.charged = _word(q.settler, abi.encodeCall(ISettler.charged, (q.token, q.owner)));
        }
        state.paused = _flag(q.token, abi.encodeCall(IStablecoin.paused, ()));
        state.ownerFrozen = _flag(q.token, abi.encodeCall(IStablecoin.frozen, (q.owner)));
        state.payeeFrozen = _flag(q.token, abi.encodeCall(IStablecoin.frozen, (q.payee)));
        state.ownerCodeSize = q.owner.code.length;
        state.ownerCodeHash = q.owner.codehash;
        state.ownerDelegate = _delegate(q.owner);
        state.ownerNativeBalance = q.owner.balance;
        state.tokenCodeSize = q.token.code.length;

        bytes memory answer = abi.encode(state);
        assembly ("memory-safe") {
            return(add(answer, 0x20), mload(answer))
        }
    }

    /// One word, taken without the rest of what may be returned.
    function _word(address target, bytes memory data) private view returns (Word memory word) {
        bool found;
        uint256 value;
        assembly ("memory-safe") {
            found := staticcall(GAS, target, add(data, 0x20), mload(data), 0, 0x20)
            found := and(found, gt(returndatasize(), 0x1f))
            if found { value := mload(0) }
        }
        word.found = found;
        word.value = value;
    }

    function _flag(address target, bytes memory data) private view returns (Flag memory flag) {
        Word memory word = _word(target, data);
        // Anything but 0 and 1 is no answer to a yes-or-no question.
        flag.found = word.found && word.value < 2;
        flag.value = flag.found && word.value == 1;
    }

    /// Whom the account's code names if it is an EIP-7702 delegation: `0xef0100 ‖ address`.
    function _delegate(address account) private view returns (address delegate) {
        if (account.code.length != 23) return address(0);
        uint256 code;
        assembly ("memory-safe") {
            mstore(0, 0)
            extcodecopy(account, 0, 0, 23)
            code := shr(72, mload(0))
        }
        if (code >> 160 == 0xef0100) delegate = address(uint160(code));
    }
}
