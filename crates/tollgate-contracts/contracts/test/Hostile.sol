// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Counterparts that mean harm, or are merely odd, for the tests alone.

/// A plain token whose behaviour on `transferFrom` is chosen by the test.
contract HostileToken {
    enum Mode {
        Honest,
        BurnGas,
        ReturnBomb,
        RevertBomb,
        Reenter,
        Fee,
        ReturnFalse,
        LieTrue,
        ReturnNothing,
        ReturnTwo,
        BalanceBomb
    }

    mapping(address owner => uint256) private balances; // 0
    mapping(address owner => mapping(address spender => uint256)) public allowance; // 1
    Mode public mode; // 2
    address public target; // 3
    bytes public payload; // 4
    bool public reentrySucceeded; // 5
    bytes4 public reentryAnswer; // 5, the error's selector: to store more would take the item's gas
    bool public burnOnPermit; // 5

    function set(Mode mode_, address target_, bytes calldata payload_) external {
        mode = mode_;
        target = target_;
        payload = payload_;
    }

    function setBurnOnPermit(bool burn) external {
        burnOnPermit = burn;
    }

    function mint(address to, uint256 value) external {
        balances[to] += value;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        return true;
    }

    function balanceOf(address owner) external view returns (uint256) {
        if (mode == Mode.BalanceBomb) {
            assembly {
                return(0, 1000000)
            }
        }
        return balances[owner];
    }

    function permit(address owner, address spender, uint256 value, uint256, uint8, bytes32, bytes32) external {
        if (burnOnPermit) while (true) {}
        allowance[owner][spender] = value;
    }

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32,
        uint8,
        bytes32,
        bytes32
    ) external {
        _move(from, to, value);
    }

    function transfer(address to, uint256 value) external {
        _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        require(allowance[from][msg.sender] >= value, "allowance");
        allowance[from][msg.sender] -= value;
        _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) private {
        if (mode == Mode.BurnGas) while (true) {}
        if (mode == Mode.ReturnBomb) {
            assembly {
                return(0, 200000)
            }
        }
        if (mode == Mode.RevertBomb) {
            assembly {
                revert(0, 200000)
            }
        }
        if (mode == Mode.Reenter) {
            (bool ok, bytes memory answer) = target.call(payload);
            (reentrySucceeded, reentryAnswer) = (ok, bytes4(answer));
        }
        if (mode == Mode.ReturnFalse) _answer(0);
        if (mode == Mode.LieTrue) _answer(1);
        require(balances[from] >= value, "balance");
        balances[from] -= value;
        balances[to] += mode == Mode.Fee ? value - value / 100 : value;
        if (mode == Mode.ReturnNothing) {
            assembly {
                return(0, 0)
            }
        }
        _answer(mode == Mode.ReturnTwo ? 2 : 1);
    }

    function _answer(uint256 word) private pure {
        assembly {
            mstore(0, word)
            return(0, 32)
        }
    }
}

/// An owner with code (ERC-1271), and an EIP-7702 delegate.
contract HostileOwner {
    enum Mode {
        Yes,
        No,
        BurnGas,
        RevertBomb
    }

    Mode public mode; // 0

    function set(Mode mode_) external {
        mode = mode_;
    }

    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        if (mode == Mode.BurnGas) while (true) {}
        if (mode == Mode.RevertBomb) {
            assembly {
                revert(0, 200000)
            }
        }
        return mode == Mode.Yes ? this.isValidSignature.selector : bytes4(0);
    }

    /// So that a test's owner with code can allow and void.
    function execute(address target, bytes calldata data) external {
        (bool ok,) = target.call(data);
        require(ok, "execute");
    }
}

/// Answers every selector with nothing, as WBNB's fallback does.
contract FallbackToken {
    fallback() external payable {}
}

/// Answers every selector with the word 5, which is no yes and no no.
contract FiveToken {
    fallback() external payable {
        assembly {
            mstore(0, 5)
            return(0, 32)
        }
    }
}

/// An EIP-1967 proxy, as USD1 has one on BSC: for gas as it is there.
contract Erc1967Proxy {
    // keccak256("eip1967.proxy.implementation") - 1
    bytes32 private constant SLOT = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    constructor(address implementation) {
        assembly {
            sstore(SLOT, implementation)
        }
    }

    fallback() external payable {
        assembly {
            let implementation := sload(SLOT)
            calldatacopy(0, 0, calldatasize())
            let ok := delegatecall(gas(), implementation, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            switch ok
            case 0 { revert(0, returndatasize()) }
            default { return(0, returndatasize()) }
        }
    }
}

/// Passes a call on, to be another caller than an account, and tells what came of it.
contract Caller {
    function pass(address target, bytes calldata data) external returns (bool ok, bytes memory answer) {
        (ok, answer) = target.call(data);
    }

    function passTwice(address target, bytes calldata one, bytes calldata two) external {
        (bool ok,) = target.call(one);
        require(ok, "one");
        (ok,) = target.call(two);
        require(ok, "two");
    }
}

/// An owner's code that says yes where it is only asked, and no where it counts: what a node calls without a
/// transaction has no gas price.
contract SimulationDetector {
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        return tx.gasprice == 0 ? this.isValidSignature.selector : bytes4(0);
    }
}
