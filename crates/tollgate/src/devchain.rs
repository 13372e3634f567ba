//! `tollgate devchain`: the development chain alone.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use crate::{
    dev::{DevOptions, DevWorld},
    serve::shutdown,
};

/// Run the development chain alone: BSC-like blocks, test tokens at the real addresses, ten accounts with money.
///
/// Its JSON-RPC is usable by viem, alloy and wallets. Nothing on it is worth anything.
#[derive(clap::Args)]
pub(crate) struct Devchain {
    /// Where JSON-RPC is served
    #[arg(long, default_value = "127.0.0.1:8545", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The chain id. With another than 31337, which may be a real network's, all keys are made for this run: what they sign
    /// may be good there too
    #[arg(long, default_value_t = 31337, value_name = "ID")]
    chain_id: u64,
    /// The time between blocks, in milliseconds
    #[arg(long, default_value_t = 450, value_parser = clap::value_parser!(u64).range(10..), value_name = "MS")]
    block_time: u64,
}

impl Devchain {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let options = DevOptions {
            chain_id: self.chain_id,
            rpc_listen: self.listen,
            block_time: Duration::from_millis(self.block_time),
        };
        let world = DevWorld::start(&options).await?;
        let stop = shutdown();
        say!("{}", world.introduction()?);
        say!("Stop it with Ctrl-C.");
        stop.await;
        Ok(ExitCode::SUCCESS)
    }
}
