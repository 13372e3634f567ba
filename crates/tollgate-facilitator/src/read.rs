//! Reads a body within a size and a time.

use core::{future::poll_fn, pin::pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;

/// Why there is no body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is over the limit")]
    TooLarge,
    #[error("the body broke off")]
    Broken,
    #[error("the body did not arrive in time")]
    Late,
}

/// The whole body. No more than `limit` bytes are held, and nothing is read beyond.
pub(crate) async fn whole<B: Body>(
    body: B,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(patience, collect(body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(BodyError::Late),
    }
}

async fn collect<B: Body>(body: B, limit: usize) -> Result<Bytes, BodyError> {
    if usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) > limit {
        return Err(BodyError::TooLarge);
    }
    let mut body = pin!(body);
    let mut read = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(mut data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
            continue;
        };
        if read.len().saturating_add(data.remaining()) > limit {
            return Err(BodyError::TooLarge);
        }
        read.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(read.freeze())
}
