//! A server is spoken to under TLS, and only if it is the one that is meant.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tollgate_ledger::{PostgresConfig, PostgresStore, Store, kit::block_on};

use crate::{
    database::{self, url},
    gateways::ID,
};

/// A certification authority of this test's own.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn admin() -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn one(client: &tokio_postgres::Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Gives the server a certificate of `localhost`, which the server writes itself: its key must be its own file.
async fn certify(client: &tokio_postgres::Client, ca: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, ca)
        .unwrap();
    for (name, pem) in [
        ("tls.key", key.serialize_pem()),
        ("tls.crt", certificate.pem()),
    ] {
        let write = format!(
            "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'cat > {name}; chmod 600 {name}'",
            pem.trim()
        );
        client.batch_execute(&write).await.unwrap();
    }
    for set in [
        "ALTER SYSTEM SET ssl_cert_file = 'tls.crt'",
        "ALTER SYSTEM SET ssl_key_file = 'tls.key'",
        "ALTER SYSTEM SET ssl = on",
    ] {
        client.batch_execute(set).await.unwrap();
    }
    client
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    // It reloads after the statement that asks for it.
    while one(client, "SHOW ssl").await != "on" {
        tokio::task::yield_now().await;
    }
}

#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn a_ledger_is_opened_under_tls_by_the_server_that_is_meant_and_by_no_other() {
    block_on(async {
        let admin = admin().await;
        let port = one(&admin, "SHOW port").await;
        let (role, password) = (database::name(), database::name());
        admin
            .batch_execute(&format!(
                "CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT CREATE ON DATABASE postgres TO {role}"
            ))
            .await
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (ca, stranger) = (authority(), authority());
        let file = |name: &str, ca: &CertifiedIssuer<'static, KeyPair>| {
            let path = directory.path().join(name);
            std::fs::write(&path, ca.pem()).unwrap();
            path.display().to_string()
        };
        let (ours, others) = (file("ca.pem", &ca), file("stranger.pem", &stranger));
        let open = async |host: &str, root: &str| {
            let url = format!(
                "postgresql://{role}:{password}@{host}:{port}/postgres?sslmode=verify-full&sslrootcert={root}&application_name={role}"
            );
            let config = PostgresConfig::new(&url).unwrap().schema(&role).unwrap();
            PostgresStore::open(config, ID).await
        };

        // A server without TLS is not spoken to.
        let error = open("localhost", &ours).await.unwrap_err().to_string();
        assert!(error.contains("TLS"), "{error}");
        certify(&admin, &ca).await;

        let store = open("localhost", &ours).await.unwrap();
        assert_eq!(
            store.totals().await.unwrap().discrepancies(),
            Vec::<String>::new()
        );
        let clear = format!(
            "SELECT (count(*) FILTER (WHERE NOT ssl))::text || ' of ' || (count(*) > 0)::text
             FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = '{role}'"
        );
        assert_eq!(one(&admin, &clear).await, "0 of true");

        // By another authority's certificate, by another name, and by nobody's the system knows.
        for (host, root) in [
            ("localhost", &*others),
            ("127.0.0.1", &ours),
            ("localhost", "system"),
        ] {
            let error = open(host, root).await.unwrap_err().to_string();
            assert!(error.contains("certificate"), "{host}, {root}: {error}");
            assert!(!error.contains(&password), "a password was shown");
        }
        let missing = format!("postgresql://h/d?sslrootcert={others}.not");
        let error = PostgresConfig::new(&missing).unwrap_err().to_string();
        assert!(error.contains("sslrootcert"), "{error}");
    });
}
