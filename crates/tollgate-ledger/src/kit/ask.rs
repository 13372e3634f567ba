//! Commands of every kind in one type, so that a history can be a list.

use tollgate_payment::{
    RowSet,
    command::{
        Adopt, Checkpoint, Claim, Commit, Conclude, Included, Release, Reserve, Seal, Submitted,
    },
};

use crate::{error::StoreError, store::Store};

macro_rules! asks {
    ($($name:ident)*) => {
        /// A command of any kind.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "each variant is the command of its name")]
        pub enum Ask {
            $($name(Box<$name>),)*
        }

        impl Ask {
            /// Executes it durably, and tells its outcome as text.
            ///
            /// # Errors
            /// As the store's.
            pub async fn run<S: Store>(&self, store: &S) -> Result<String, StoreError> {
                match self {
                    $(Self::$name(command) => {
                        store.transact((**command).clone()).await.map(|outcome| format!("{outcome:?}"))
                    })*
                }
            }

            /// The rows that it names.
            pub fn rows(&self) -> RowSet {
                match self {
                    $(Self::$name(command) => tollgate_payment::Command::rows(&**command),)*
                }
            }
        }

        $(impl From<$name> for Ask {
            fn from(command: $name) -> Self {
                Self::$name(Box::new(command))
            }
        })*
    };
}

asks! { Reserve Checkpoint Commit Release Claim Adopt Seal Submitted Included Conclude }
