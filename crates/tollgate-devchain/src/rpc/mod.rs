//! JSON-RPC 2.0: envelopes, batches, faults, and the table of methods.

mod call;
mod dev;
mod error;
mod params;
mod read;
mod send;

pub use error::RpcError;

use serde_json::{Value, json};

use crate::{faults::Fault, node::Node, rpc::params::Params};

/// The most calls in one batch.
const MAX_BATCH: usize = 1000;

/// What the transport sends back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// The JSON document.
    Json(Value),
    /// An HTTP status with no body.
    Status(u16),
    /// The first half of the document.
    Truncated(Value),
}

/// The answer to one call, after faults.
enum Answer {
    Done(Result<Value, RpcError>),
    Status(u16),
    Truncated(Result<Value, RpcError>),
}

/// Answers a request or a batch. The calls of a batch run in order; a fault of
/// the transport in one of them is a fault of the whole.
pub(crate) async fn serve(node: &Node, request: Value) -> Reply {
    let calls = match request {
        Value::Array(calls) if calls.is_empty() => {
            return Reply::Json(failure(Value::Null, RpcError::new(-32600, "empty batch")));
        }
        Value::Array(calls) if calls.len() > MAX_BATCH => {
            return Reply::Json(failure(
                Value::Null,
                RpcError::new(-32600, "batch too large"),
            ));
        }
        Value::Array(calls) => calls,
        single => return one(node, single).await,
    };
    let mut answers = Vec::with_capacity(calls.len());
    let mut truncated = false;
    let mut status = None;
    for call in calls {
        match one(node, call).await {
            Reply::Json(answer) => answers.push(answer),
            Reply::Truncated(answer) => {
                truncated = true;
                answers.push(answer);
            }
            Reply::Status(code) => status = Some(code),
        }
    }
    match status {
        Some(code) => Reply::Status(code),
        None if truncated => Reply::Truncated(Value::Array(answers)),
        None => Reply::Json(Value::Array(answers)),
    }
}

async fn one(node: &Node, call: Value) -> Reply {
    let Value::Object(mut call) = call else {
        return Reply::Json(failure(
            Value::Null,
            RpcError::new(-32600, "invalid request"),
        ));
    };
    let id = call.remove("id").unwrap_or(Value::Null);
    let Some(Value::String(method)) = call.remove("method") else {
        return Reply::Json(failure(
            id,
            RpcError::new(-32600, "invalid request: no method"),
        ));
    };
    let params = match call.remove("params") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(params)) => params,
        Some(_) => {
            let error = RpcError::params("non-array args");
            return Reply::Json(failure(id, error));
        }
    };
    let document = |result| match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => failure(id, error),
    };
    match answer(node, &method, params).await {
        Answer::Done(result) => Reply::Json(document(result)),
        Answer::Status(code) => Reply::Status(code),
        Answer::Truncated(result) => Reply::Truncated(document(result)),
    }
}

async fn answer(node: &Node, method: &str, params: Vec<Value>) -> Answer {
    match node.faults.meet(method) {
        None => Answer::Done(dispatch(node, method, params).await),
        Some(Fault::Error(error)) => Answer::Done(Err(error)),
        Some(Fault::Status(code)) => Answer::Status(code),
        Some(Fault::LoseAnswer) => {
            // The outcome is what the caller does not get to know.
            let _ = dispatch(node, method, params).await;
            Answer::Status(504)
        }
        Some(Fault::Repeat) => {
            let _ = dispatch(node, method, params.clone()).await;
            Answer::Done(dispatch(node, method, params).await)
        }
        Some(Fault::Forge(result)) => {
            let _ = dispatch(node, method, params).await;
            Answer::Done(Ok(result))
        }
        Some(Fault::Truncate) => Answer::Truncated(dispatch(node, method, params).await),
    }
}

pub(crate) fn failure(id: Value, error: RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

async fn dispatch(node: &Node, method: &str, params: Vec<Value>) -> Result<Value, RpcError> {
    if method == "eth_sendRawTransactionSync" {
        return send::send_sync(node, &Params::new(params)).await;
    }
    peek(node, method, params)
}

/// Runs a method that need not wait: not counted, and with no fault of its
/// own.
pub(crate) fn peek(node: &Node, method: &str, params: Vec<Value>) -> Result<Value, RpcError> {
    let params = Params::new(params);
    match method {
        "eth_sendRawTransaction" => send::send(node, &params),
        "eth_call" => call::call(node, &params),
        "eth_estimateGas" => call::estimate(node, &params),
        _ => read::dispatch(node, method, &params)
            .or_else(|| dev::dispatch(node, method, &params))
            .unwrap_or_else(|| {
                let message = format!("the method {method} does not exist/is not available");
                Err(RpcError::new(-32601, message))
            }),
    }
}
