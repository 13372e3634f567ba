//! A server that would lose what it acknowledges, or takes no writes, is told from one that is fit before anything is written.

use tollgate_ledger::{PostgresConfig, PostgresError, PostgresStore, kit::block_on};

use crate::{
    database::{self, url},
    gateways::ID,
};

/// A second server, which the first one starts: it runs as an account that may, and knows where its programs are.
struct Second {
    admin: tokio_postgres::Client,
    programs: String,
    place: String,
}

impl Second {
    async fn new() -> Self {
        let (admin, connection) = tokio_postgres::connect(&url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let one = async |sql: &str| -> String { admin.query_one(sql, &[]).await.unwrap().get(0) };
        let programs = one("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await;
        let sockets = one("SHOW unix_socket_directories").await;
        let place = format!("{sockets}/{}", database::name());
        let second = Self {
            admin,
            programs,
            place,
        };
        let make = "-U tollgate -E UTF8 --locale=C --auth-local=trust --auth-host=reject --no-sync";
        second.shell(&format!("initdb {make}")).await;
        second
    }

    /// Runs one of its programs on it.
    async fn shell(&self, command: &str) {
        let Self {
            programs, place, ..
        } = self;
        let run = format!("PGDATA={place}/data {programs}/{command} >> {place}.log 2>&1");
        let run = format!(
            "COPY (SELECT 1) TO PROGRAM '{}'",
            format!("mkdir -p {place} && {run}").replace('\'', "''")
        );
        self.admin.batch_execute(&run).await.unwrap();
    }

    /// Why a ledger is not opened there, where the server has these settings.
    async fn refuses(&self, settings: &str) -> PostgresError {
        let place = &self.place;
        self.shell(&format!(
            "pg_ctl -w -o \"-k {place} -p 5432 -c listen_addresses= {settings}\" start"
        ))
        .await;
        let url = format!("host={place} port=5432 user=tollgate dbname=postgres");
        let config = PostgresConfig::new(&url).unwrap();
        let opened = PostgresStore::open(config, ID).await;
        self.shell("pg_ctl -w -m fast stop").await;
        opened.map(drop).unwrap_err()
    }
}

#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn a_server_whose_disk_forgets_or_that_takes_no_writes_is_refused() {
    block_on(async {
        let second = Second::new().await;
        for asked in ["fsync", "full_page_writes"] {
            let error = second.refuses(&format!("-c {asked}=off")).await;
            let PostgresError::NotDurable { setting, found, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((*setting, found.as_str()), (asked, "off"));
            assert!(error.to_string().contains("must be on"), "{error}");
        }
        let standby = format!("{}/data/standby.signal", second.place);
        let signal = format!("COPY (SELECT 1) TO PROGRAM 'touch {standby}'");
        second.admin.batch_execute(&signal).await.unwrap();
        let error = second.refuses("").await;
        assert!(matches!(error, PostgresError::Standby), "{error:?}");
        assert!(error.to_string().contains("name the primary"), "{error}");
    });
}
