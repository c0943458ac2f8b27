//! `/metrics`, `/healthz` and `/readyz` over HTTP: read-only, without authentication, therefore on loopback unless the operator
//! says otherwise.
//!
//! Each request is put to the controller's owner task like one of the control socket. Connections are bounded in number and time;
//! one beyond the bound waits to be accepted.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, VARY},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::format::Format;
use crate::control::{Reply, Request as Asking, server::Asked};

/// Connections served at once.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(30);
/// How long the controller may take to answer before it is unhealthy.
const ANSWER_MAX: Duration = Duration::from_secs(2);

const TEXT: &str = "text/plain; charset=utf-8";

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics on {address}: {error}; give `metrics` in the configuration a free address of this machine, or leave it out"
)]
pub struct MetricsError {
    /// The address.
    pub address: SocketAddr,
    /// The kernel's reason.
    pub error: io::Error,
}

/// The listening socket.
#[derive(Debug)]
pub struct Server(TcpListener);

impl Server {
    /// Opens it.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        TcpListener::bind(address).await.map(Self).map_err(|error| MetricsError { address, error })
    }

    /// Serves until the owner of `asked` is gone.
    pub async fn serve(self, asked: mpsc::Sender<Asked>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            tokio::select! {
                () = asked.closed() => return,
                accepted = self.0.accept() => match accepted {
                    Ok((stream, _)) => {
                        let asked = asked.clone();
                        tokio::spawn(async move {
                            if timeout(CONNECTION_MAX, converse(stream, asked)).await.is_err() {
                                tracing::debug!("a metrics connection lasted too long");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "metrics: accept failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

async fn converse(stream: TcpStream, asked: mpsc::Sender<Asked>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = asked.clone();
        async move {
            let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let format = Format::wanted(accept);
            Ok::<_, Infallible>(answer(request.method(), request.uri().path(), format, &asked).await)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "metrics connection ended");
    }
}

async fn answer(
    method: &Method,
    path: &str,
    format: Format,
    asked: &mpsc::Sender<Asked>,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return page(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            format!("{method} changes nothing here: use GET\n"),
        );
    }
    match path {
        "/metrics" => match ask(Asking::Metrics, asked).await {
            Ok(text) => {
                let mut response = page(StatusCode::OK, format.content_type(), format.written(text));
                response.headers_mut().insert(VARY, HeaderValue::from_name(ACCEPT));
                response
            }
            Err(why) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, why),
        },
        "/healthz" => match ask(Asking::Ready, asked).await {
            Ok(_) => page(StatusCode::OK, TEXT, "the controller answers\n".into()),
            Err(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
        },
        "/readyz" => match ask(Asking::Ready, asked).await {
            Ok(missing) if missing.is_empty() => {
                page(StatusCode::OK, TEXT, "every circuit has a way\n".into())
            }
            Ok(missing) | Err(missing) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, missing),
        },
        _ => page(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".into()),
    }
}

/// The controller's answer, a text; or why there is none.
async fn ask(request: Asking, asked: &mpsc::Sender<Asked>) -> Result<String, String> {
    let (sender, receiver) = oneshot::channel();
    let exchange = async {
        asked.send((request, sender)).await.ok()?;
        receiver.await.ok()
    };
    match timeout(ANSWER_MAX, exchange).await {
        Ok(Some(Reply::Ok(value))) => Ok(value.as_str().unwrap_or_default().to_owned()),
        Ok(Some(Reply::Error(why))) => Err(why + "\n"),
        Ok(None) => Err("the daemon is stopping\n".into()),
        Err(_) => Err(format!("the controller has not answered for {} s\n", ANSWER_MAX.as_secs())),
    }
}

fn page(status: StatusCode, content: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}
