//! A database without a ledger.

use std::process::Command;

use tollgate_ledger::{PostgresConfig, PostgresError, PostgresStore};
use tollgate_x402::B256;

use crate::{World, url};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
async fn commands_that_only_read_make_no_ledger_where_there_is_none() {
    let world = World::new().await;
    // It writes the configuration, and is gone before it has opened anything.
    let mut config = world.directory.path().join("a.toml");
    let mut gateway = world.gateway("a");
    gateway.child.kill().unwrap();
    gateway.child.wait().unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let schema = format!("{}_none", world.schema);
    let text = text.replace(&world.schema, &schema);
    config.set_file_name("none.toml");
    std::fs::write(&config, text).unwrap();
    for command in ["audit", "stuck", "export"] {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["ledger", command, "--config"])
            .arg(&config)
            .env("DATABASE", url())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{command}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("there is no ledger"), "{command}: {told}");
    }
    let none = PostgresConfig::new(&url())
        .unwrap()
        .schema(&schema)
        .unwrap();
    let opened = PostgresStore::open(none.existing(), B256::ZERO).await;
    assert!(matches!(opened, Err(PostgresError::Absent { .. })));
}
