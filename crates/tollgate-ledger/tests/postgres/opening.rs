//! What is refused at the start, and two versions at once.

use tokio::task::JoinSet;
use tollgate_ledger::{
    PostgresConfig, PostgresError, PostgresStore, Store,
    kit::{Kind, ManualClock, block_on, payer, reserve},
};
use tollgate_payment::command::Commit;
use tollgate_x402::{Amount, Clock};

use crate::{
    database::{self, url},
    gateways::ID,
};

async fn sql(schema: &str, text: &str) {
    let (client, connection) = tokio_postgres::connect(&url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let text = format!("SET search_path = {schema}; {text}");
    client.batch_execute(&text).await.unwrap();
}

#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn a_server_that_would_lose_acknowledged_payments_is_refused_with_the_setting() {
    block_on(async {
        for value in ["off", "local"] {
            let url = format!("{} options=-csynchronous_commit={value}", url());
            let config = PostgresConfig::new(&url)
                .unwrap()
                .schema(&database::name())
                .unwrap();
            let error = PostgresStore::open(config, ID).await.unwrap_err();
            let PostgresError::NotDurable { setting, found, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((*setting, found.as_str()), ("synchronous_commit", value));
            assert!(error.to_string().contains("must be on"), "{error}");
        }
        let store = PostgresStore::open(database::ledger(), ID).await.unwrap();
        assert_eq!(store.report().synchronous_standby, None);
        assert!(
            store
                .report()
                .warning()
                .unwrap()
                .contains("synchronous_standby_names")
        );
    });
}

#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn a_password_is_never_told() {
    block_on(async {
        let url = "postgresql://seller:hunter2@127.0.0.1:1/books?sslmode=disable";
        let config = PostgresConfig::new(url).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = PostgresStore::open(config, ID).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(error.to_string().contains("127.0.0.1/books"), "{error}");
        let error = PostgresConfig::new("postgresql://seller:hunter2@").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    });
}

#[test]
fn nothing_is_sent_to_another_machine_in_the_clear_unless_the_url_says_so() {
    let open = |url: &str| PostgresConfig::new(url).map(drop);
    let clear = Err(PostgresError::Tls);
    assert_eq!(open("postgresql://seller@books.example/ledger"), clear);
    for mode in ["require", "verify-full"] {
        let url = format!("postgresql://seller@books.example/ledger?sslmode={mode}");
        assert_eq!(open(&url), Ok(()), "{mode}");
    }
    for mode in ["prefer", "allow", "verify-ca"] {
        let url = format!("postgresql://seller@127.0.0.1/ledger?sslmode={mode}");
        assert_eq!(open(&url), Err(PostgresError::TlsMode), "{mode}");
    }
    assert_eq!(
        open("postgresql://seller@books.example/ledger?sslmode=disable"),
        Ok(())
    );
    assert_eq!(open("postgresql://seller@127.0.0.1/ledger"), Ok(()));
    assert_eq!(open("host=/run/postgresql dbname=ledger"), Ok(()));
}

#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn a_ledger_is_opened_as_long_as_its_tables_allow() {
    block_on(async {
        let name = database::name();
        let open = async || PostgresStore::open(database::of(&name), ID).await;
        drop(open().await.unwrap());
        // A newer program added something that this one need not know of.
        sql(&name, "UPDATE meta SET value = '9' WHERE key = 'schema'").await;
        drop(open().await.unwrap());
        // And then it took away what this one needs.
        sql(
            &name,
            "UPDATE meta SET value = '9' WHERE key = 'compatible'",
        )
        .await;
        let error = open().await.unwrap_err();
        assert!(
            matches!(
                error,
                PostgresError::Newer {
                    needed: 9,
                    known: 2
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("use the newer program"));
    });
}

async fn serve(store: &PostgresStore, id: u64, slot: u32) {
    let now = ManualClock::new().now();
    let who = (payer((id % 3) as u8), Kind::Once, id);
    let mut command = reserve(id, who, 100, 50, 1_000_000, now);
    command.keys.exposure.slice = slot;
    let keys = command.keys;
    store.transact(command).await.unwrap();
    let used = Some(Amount::from(7u64));
    let commit = Commit {
        keys,
        used,
        memo: None,
        answer: None,
    };
    store.transact(commit).await.unwrap();
}

/// A gateway of the older version goes on while one of this version changes the tables and works beside it.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn two_versions_work_on_one_ledger_while_the_newer_changes_its_tables() {
    block_on(async {
        let config = database::ledger();
        let older = PostgresStore::open(config.clone().knowing(1), ID)
            .await
            .unwrap();
        let before = older.begin_run(2).await.unwrap();
        for id in 0..5 {
            serve(&older, id, before.slot).await;
        }
        let newer = PostgresStore::open(config.clone(), ID).await.unwrap();
        let beside = newer.begin_run(2).await.unwrap();
        assert_eq!((before.slot, beside.slot), (0, 1));
        let mut tasks = JoinSet::new();
        for id in 10..50u64 {
            let (store, slot) = if id % 2 == 0 {
                (older.clone(), before.slot)
            } else {
                (newer.clone(), beside.slot)
            };
            tasks.spawn(async move { serve(&store, id, slot).await });
        }
        tasks.join_all().await;
        assert_eq!(older.renew(before.epoch).await, Ok(true));
        assert_eq!(newer.prune(10).await, Ok(0));
        // The older one can be started again, too.
        let again = PostgresStore::open(config.knowing(1), ID).await.unwrap();
        let totals = again.totals().await.unwrap();
        assert_eq!(totals.discrepancies(), Vec::<String>::new());
        assert_eq!(totals, newer.totals().await.unwrap());
    });
}
