//! `/metrics`, `/healthz` and `/readyz` over HTTP: read-only, without authentication, therefore on loopback unless the operator
//! says otherwise.
//!
//! They are read from the [`Board`], never from the controller's owner task. Connections are bounded in number and time: one beyond the bound takes
//! the place of the one that has been idle longest, so that nobody who only waits keeps a monitoring system out.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

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
    task::AbortHandle,
    time::timeout,
};

use super::{board::Board, format::Format};
use crate::accept::Pause;

/// Connections served at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(30);
/// How long a request's head may take, and the next one's to begin.
const HEAD_MAX: Duration = Duration::from_secs(5);

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

    /// Serves until `end` is ready.
    pub async fn serve(self, board: Arc<Board>, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        let (mut connections, mut pause) = (Connections::default(), Pause::default());
        loop {
            tokio::select! {
                () = &mut end => return,
                accepted = self.0.accept() => match accepted {
                    Ok((stream, _)) => {
                        pause.handle_accepted();
                        connections.serve(stream, board.clone());
                    }
                    Err(error) => pause.after("metrics", &error).await,
                },
            }
        }
    }
}

/// The connections that are served, the oldest first.
#[derive(Default)]
struct Connections(VecDeque<(AbortHandle, Arc<AtomicBool>)>);

impl Connections {
    /// Serves one more. Where all places are taken, the oldest connection that has no request being answered ends; a newcomer where there is none.
    fn serve(&mut self, stream: TcpStream, board: Arc<Board>) {
        if self.0.len() >= CONNECTIONS_MAX {
            self.0.retain(|(task, _)| !task.is_finished());
        }
        if self.0.len() >= CONNECTIONS_MAX {
            let idle = self.0.iter().position(|(_, is_busy)| !is_busy.load(Ordering::Relaxed));
            let Some((task, _)) = idle.and_then(|at| self.0.remove(at)) else { return };
            task.abort();
        }
        let is_busy = Arc::new(AtomicBool::new(false));
        let serving = converse(stream, board, is_busy.clone());
        let task = tokio::spawn(async move {
            if timeout(CONNECTION_MAX, serving).await.is_err() {
                tracing::debug!("a metrics connection lasted too long");
            }
        });
        self.0.push_back((task.abort_handle(), is_busy));
    }
}

async fn converse(stream: TcpStream, board: Arc<Board>, is_busy: Arc<AtomicBool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (board, is_busy) = (board.clone(), is_busy.clone());
        async move {
            is_busy.store(true, Ordering::Relaxed);
            let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let format = Format::wanted(accept);
            let response = answer(request.method(), request.uri().path(), format, &board).await;
            is_busy.store(false, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "metrics connection ended");
    }
}

async fn answer(method: &Method, path: &str, format: Format, board: &Board) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return page(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            format!("{method} changes nothing here: use GET\n"),
        );
    }
    match path {
        "/metrics" => match board.fresh().await.and_then(|shown| shown.metrics(format)) {
            Ok(text) => {
                let mut response = page(StatusCode::OK, format.content_type(), text);
                response.headers_mut().insert(VARY, HeaderValue::from_name(ACCEPT));
                response
            }
            Err(why) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, why),
        },
        "/healthz" => match board.unhealthy(Instant::now()) {
            why if why.is_empty() => page(StatusCode::OK, TEXT, "the controller answers\n"),
            why => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
        },
        "/readyz" => match board.fresh().await {
            Ok(shown) if shown.unready.is_empty() => {
                page(StatusCode::OK, TEXT, format!("every circuit has a way\n{}", shown.held))
            }
            Ok(shown) => {
                page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}{}", shown.unready, shown.held))
            }
            Err(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
        },
        _ => page(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn page(status: StatusCode, content: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::metrics::{
        Metric, Page,
        board::{ANSWER_MAX, Snapshot},
    };

    /// A server whose loop turns every ten milliseconds, and the snapshots that it has made.
    async fn served() -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, board) = (server.0.local_addr().unwrap(), Arc::new(Board::new(Instant::now())));
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (turning, count) = (board.clone(), made.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                turning.beat(Instant::now(), String::new());
                if turning.is_due(Instant::now()) {
                    let mut page = Page::default();
                    page.put(Metric::Uptime, &[], 1.0);
                    turning.show(Snapshot::new(Instant::now(), Ok(page), String::new(), String::new()));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        tokio::spawn(server.serve(board, std::future::pending()));
        (address, made)
    }

    async fn get(address: SocketAddr, path: &'static str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn two_hundred_idle_connections_keep_no_scrape_waiting() {
        let (address, _) = served().await;
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        for path in ["/metrics", "/healthz", "/readyz"] {
            let begin = Instant::now();
            let page = timeout(Duration::from_secs(3), get(address, path)).await.unwrap().unwrap();
            assert!(page.starts_with("HTTP/1.1 200"), "{path}: {page}");
            assert!(begin.elapsed() < Duration::from_secs(1), "{path} took {:?}", begin.elapsed());
        }
    }

    #[tokio::test]
    async fn the_controller_is_unhealthy_while_a_part_of_it_is_dead_or_its_loop_stands_still() {
        let now = Instant::now();
        let board = Board::new(now);
        let rows: [(Instant, &str, u16); 4] = [
            (now, "", 200),
            (now, "the BFD thread has ended\n", 503),
            (now, "", 200),
            (now.checked_sub(ANSWER_MAX).unwrap(), "", 503),
        ];
        for (turned, dead, status) in rows {
            let board = if turned == now { &board } else { &Board::new(turned) };
            board.beat(turned, dead.into());
            let response = answer(&Method::GET, "/healthz", Format::Text, board).await;
            assert_eq!(response.status().as_u16(), status, "{dead:?}");
        }
    }

    #[tokio::test]
    async fn a_session_that_an_operator_wants_out_of_service_hinders_nothing() {
        let board = Board::new(Instant::now());
        let held = "held: session a is out of service\nheld: session b is out of service\n";
        let rows = [("", "", 200), ("", held, 200), ("circuit x has no session\n", held, 503)];
        for (unready, held, status) in rows {
            board.show(Snapshot::new(Instant::now(), Ok(Page::default()), unready.into(), held.into()));
            let response = answer(&Method::GET, "/readyz", Format::Text, &board).await;
            assert_eq!(response.status().as_u16(), status, "{unready:?}");
        }
    }

    #[tokio::test]
    async fn many_scrapes_at_once_are_answered_from_one_snapshot() {
        let (address, made) = served().await;
        let begin = Instant::now();
        let scrapes: Vec<_> = (0..500).map(|_| tokio::spawn(get(address, "/metrics"))).collect();
        let mut answered = 0;
        for scrape in scrapes {
            // The oldest connection without a request makes room for a newcomer, so some are refused.
            let page = scrape.await.unwrap();
            answered += usize::from(page.is_ok_and(|page| page.contains("erdp_uptime_seconds")));
        }
        assert!(answered >= 64, "{answered} of 500");
        let most = begin.elapsed().as_secs() as usize + 2;
        assert!(made.load(Ordering::Relaxed) <= most, "{made:?} snapshots");
    }
}
