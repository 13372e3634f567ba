//! What a proxy sees.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::Command,
    sync::mpsc,
};

use tollgate_client::{ChatPart, PayError};

use crate::{
    ready::{client, serve},
    seller::Counting,
};

/// Set in the process that has a proxy in its environment.
const BEHIND: &str = "TOLLGATE_TEST_BEHIND_A_PROXY";

#[test]
fn a_payment_over_plain_http_goes_by_no_proxy_and_one_over_https_by_a_tunnel() {
    if std::env::var_os(BEHIND).is_some() {
        return behind_a_proxy();
    }
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = proxy.accept() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            // Told before the connection is closed, which the client waits for.
            let _ = tell.send(line);
        }
    });
    // An environment belongs to a whole process, so another one has the proxy.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "proxy::a_payment_over_plain_http_goes_by_no_proxy_and_one_over_https_by_a_tunnel",
    ]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &address);
        child.env(name.to_ascii_lowercase(), &address);
    }
    for name in ["NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
        child.env_remove(name);
    }
    let output = child.env(BEHIND, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    let seen: Vec<String> = told.try_iter().collect();
    assert!(!seen.is_empty(), "https goes by the proxy");
    for line in seen {
        assert_eq!(line.trim_end(), "CONNECT seller.invalid:443 HTTP/1.1");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn behind_a_proxy() {
    let client = client(&Counting::development());
    let url = format!("{}/x402/v1", serve().await);
    let mut answer = client.chat(&url, "{}").await.unwrap();
    let part = answer.next().await.unwrap().unwrap();
    assert_eq!(part, ChatPart::Text("hi".into()));
    let tunnelled = client.post_json("https://seller.invalid/x402/v1", "{}");
    let error = tunnelled.await.unwrap_err();
    assert!(matches!(error, PayError::Transport(_)), "{error}");
}
