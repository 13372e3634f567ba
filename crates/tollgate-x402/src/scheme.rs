//! Schemes, and the ways in which a token is moved.

use core::{convert::Infallible, fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// The version of x402 in which an object is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum X402Version {
    /// Version 1: offers in the body, payments in `X-PAYMENT`.
    V1,
    /// Version 2: offers in `PAYMENT-REQUIRED`, payments in `PAYMENT-SIGNATURE`.
    V2,
}

impl X402Version {
    /// The number as `x402Version` has it.
    pub const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    pub(crate) const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

impl Serialize for X402Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// Any other name, kept as it came.
            Other(Box<str>),
        }

        impl $name {
            /// The name as it goes over the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                match name {
                    $($text => Self::$variant,)*
                    _ => Self::Other(name.into()),
                }
            }
        }

        impl FromStr for $name {
            type Err = Infallible;
            fn from_str(name: &str) -> Result<Self, Infallible> {
                Ok(Self::from(name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

names! {
    /// A payment scheme.
    Scheme {
        /// The amount is the price.
        Exact = "exact",
        /// The amount is a maximum. Two kinds share the name: [`Allowance`](crate::Allowance) and [`Once`](crate::Once).
        Upto = "upto",
    }
}

names! {
    /// `extra.primaryType`: the EIP-712 type that thirdweb's clients sign.
    PrimaryType {
        /// ERC-2612 `Permit`.
        Permit = "Permit",
        /// EIP-3009 `TransferWithAuthorization`.
        TransferWithAuthorization = "TransferWithAuthorization",
    }
}

names! {
    /// `extra.assetTransferMethod`: how an x402 v2 client moves the token. Absent means EIP-3009.
    AssetTransferMethod {
        /// EIP-3009 `transferWithAuthorization`.
        Eip3009 = "eip3009",
        /// Permit2 through an x402 proxy.
        Permit2 = "permit2",
    }
}
