use std::convert::Infallible;

use bytes::Bytes;
use futures::Stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

/// What an answer says.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer in words.
pub fn said(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut answer = Response::new(Full::from(text.into()).boxed_unsync());
    *answer.status_mut() = status;
    plain(&mut answer);
    answer
}

/// An answer that goes on.
pub fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    use futures::StreamExt;
    let pieces = pieces.map(|piece| Ok(Frame::data(piece)));
    let mut answer = Response::new(StreamBody::new(pieces).boxed_unsync());
    plain(&mut answer);
    answer
}

/// An answer without words.
pub fn nothing() -> Body {
    Full::default().boxed_unsync()
}

fn plain(answer: &mut Response<Body>) {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
}
