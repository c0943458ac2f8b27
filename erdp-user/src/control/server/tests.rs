//! The socket in hostile hands: clients that ask nothing, that read nothing, that have gone.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream as Blocking,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use ipnet::IpNet;
use serde_json::json;

use super::*;
use crate::{
    bgp::PeerId,
    config::DomainId,
    control::{
        Envelope, PROTOCOL, Peering, Reply, Request, Topic,
        client::Client,
        lists::{Key, Part, TURN, push_row, slice},
        search::{Search, seek},
    },
};

const SHORT: Patience = Patience {
    request: Duration::from_secs(1),
    page: Duration::from_secs(2),
    list: Duration::from_millis(200),
    whole_list: Duration::from_secs(60),
};

/// A socket, what comes of it, and the folder it is in.
struct Stand {
    path: PathBuf,
    asked: mpsc::Receiver<Asked>,
    _roles: watch::Sender<Roles>,
}

impl Stand {
    fn up(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("erdp-control-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("control.sock");
        let (asked_in, asked) = mpsc::channel(32);
        let roles = watch::Sender::new(Roles::default());
        let desk = Desk {
            asked: asked_in,
            successors: mpsc::channel(1).0,
            board: Arc::new(Board::new(Instant::now())),
            roles: roles.subscribe(),
        };
        tokio::spawn(Server::bind(&path).unwrap().serve_with(desk, SHORT));
        Self { path, asked, _roles: roles }
    }

    /// A controller that has two lists of so many rows; the answer is how many pages it has made.
    fn answers(self, rows: u32) -> (PathBuf, Arc<AtomicUsize>) {
        let (path, pages) = (self.path.clone(), Arc::new(AtomicUsize::new(0)));
        let made = pages.clone();
        tokio::spawn(async move {
            // Whole, so that the folder goes with the test.
            let mut stand = self;
            while let Some(asked) = stand.asked.recv().await {
                match asked {
                    Asked::Request { only_here: Some(found), answer, .. } => {
                        let _ =
                            answer.send(Reply::Ok(json!([found.peers[0].0, found.count, found.examples])));
                    }
                    Asked::Request { request, answer, .. } => {
                        let _ = answer.send(Reply::Ok(request.summary().into()));
                    }
                    Asked::Parts { answer, .. } => {
                        let _ = answer.send(Ok([0, 1].map(|it| Part::Routes(DomainId(it))).to_vec()));
                    }
                    Asked::Keys { answer, .. } => {
                        let _ = answer.send((0..rows).rev().map(key).collect());
                    }
                    Asked::Rows { part, keys, answer } => {
                        made.fetch_add(1, Ordering::Relaxed);
                        let write = |key: &Key, text: &mut String| {
                            push_row(text, &json!({"part": format!("{part:?}"), "prefix": key.0}));
                        };
                        let _ = answer.send(slice(&keys, &TURN, || Duration::ZERO, write));
                    }
                    Asked::Search { answer, .. } => {
                        let domains = [0, 1].map(DomainId).to_vec();
                        let _ = answer.send(Some(Search { peers: vec![PeerId(3)], domains }));
                    }
                    Asked::Seek { keys, answer, .. } => {
                        made.fetch_add(1, Ordering::Relaxed);
                        let _ = answer.send(seek(&keys, &TURN, || Duration::ZERO, |key| key.0 == only_one()));
                    }
                }
            }
        });
        (path, pages)
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.path.parent().map(fs::remove_dir_all);
    }
}

fn key(number: u32) -> Key {
    (IpNet::new(Ipv4Addr::from(number << 8).into(), 24).unwrap(), DomainId(0))
}

/// The prefix that nothing else leads to.
fn only_one() -> IpNet {
    key(7).0
}

fn line(request: Request) -> Vec<u8> {
    let mut text = serde_json::to_vec(&Envelope { protocol: PROTOCOL, request }).unwrap();
    text.push(b'\n');
    text
}

/// Something that blocks, beside the server.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    task::spawn_blocking(work).await.unwrap()
}

fn ask(path: &Path, topic: Topic) -> serde_json::Value {
    Client::connect(path).unwrap().ask(&Request::Show(topic)).unwrap()
}

/// How long a connection stays open.
fn lasts(mut stream: Blocking) -> Duration {
    let begin = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut rest);
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_nothing_lock_nobody_out() {
    let (path, _) = Stand::up("idle").answers(0);
    aside(move || {
        let idle: Vec<Blocking> = (0..60).map(|_| Blocking::connect(&path).unwrap()).collect();
        std::thread::sleep(SHORT.request + Duration::from_millis(200));
        let begin = Instant::now();
        assert_eq!(ask(&path, Topic::Sessions), "show sessions");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        drop(idle);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_finds_no_place_is_told_why_before_it_is_closed() {
    let (path, _) = Stand::up("full").answers(0);
    aside(move || {
        let held: Vec<Blocking> = (0..40).map(|_| Blocking::connect(&path).unwrap()).collect();
        // The places of those before are taken in the order in which they came.
        std::thread::sleep(Duration::from_millis(100));
        let error = Client::connect(&path).unwrap().ask(&Request::Show(Topic::Sessions)).unwrap_err();
        assert!(error.to_string().contains("connections are open"), "{error}");
        drop(held);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_no_whole_line_is_dropped_within_the_time() {
    let (path, _) = Stand::up("half").answers(0);
    aside(move || {
        let mut half = Blocking::connect(&path).unwrap();
        half.write_all(b"{\"protocol\":1,").unwrap();
        assert!(lasts(half) < Duration::from_secs(5), "half a line");
        assert!(lasts(Blocking::connect(&path).unwrap()) < Duration::from_secs(5), "no line at all");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prefixes_that_an_order_is_judged_by_are_looked_at_a_page_a_turn_and_not_at_all_where_it_is_forced()
 {
    let (path, pages) = Stand::up("search").answers(2_500);
    let ask = move |force| {
        let text = String::new();
        let order = Peering::Disable { name: "lab/private".into(), text, drain_ms: 0, force };
        Client::connect(&path).unwrap().ask(&Request::Peering(order)).unwrap()
    };
    aside(move || {
        let only = only_one().to_string();
        assert_eq!(ask(false), json!([3, 2, [only, only]]), "in either of two tables");
        assert_eq!(pages.load(Ordering::Relaxed), 6, "of a thousand prefixes at most");
        assert!(ask(true).is_string(), "nothing was looked for");
        assert_eq!(pages.load(Ordering::Relaxed), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_client_was_killed_is_known_to_be_nobodys() {
    let mut stand = Stand::up("gone");
    let disable = || {
        Request::Peering(Peering::Disable {
            name: "lab/private".into(),
            text: String::new(),
            drain_ms: 0,
            force: true,
        })
    };
    let path = stand.path.clone();
    aside(move || Blocking::connect(&path).unwrap().write_all(&line(disable())).unwrap()).await;
    // The controller was stopped, or busy: it gets the order only now.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let Some(Asked::Request { request, asker: Some(asker), .. }) = stand.asked.recv().await else {
        panic!("another question")
    };
    assert!(request.is_order() && asker.is_gone());

    let path = stand.path.clone();
    let waits = task::spawn_blocking(move || {
        let mut stream = Blocking::connect(&path).unwrap();
        stream.write_all(&line(disable())).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        BufReader::new(stream).read_line(&mut said).unwrap();
        said
    });
    let Some(Asked::Request { asker: Some(asker), answer, .. }) = stand.asked.recv().await else {
        panic!("another question")
    };
    assert!(!asker.is_gone(), "it waits for its answer");
    answer.send(Reply::Ok("done".into())).unwrap();
    assert_eq!(waits.await.unwrap(), "{\"ok\":\"done\"}\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_is_one_line_as_version_0_1_0_has_it_in_order_and_whole() {
    let (path, pages) = Stand::up("list").answers(20_000);
    let rows = aside(move || {
        let mut stream = Blocking::connect(&path).unwrap();
        // As a client of that version asks.
        stream.write_all(b"{\"protocol\":1,\"request\":{\"show\":\"routes\"}}\n").unwrap();
        let mut said = String::new();
        BufReader::new(stream).read_line(&mut said).unwrap();
        let mut said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said["ok"].take()
    })
    .await;
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 40_000);
    for (at, number) in [(0, 0), (19_999, 19_999), (20_000, 0), (39_999, 19_999)] {
        assert_eq!(rows[at]["prefix"], json!(key(number).0), "row {at}");
    }
    assert_eq!(pages.load(Ordering::Relaxed), 40, "a thousand rows a page");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_list_is_an_empty_list() {
    let (path, _) = Stand::up("empty").answers(0);
    assert_eq!(aside(move || ask(&path, Topic::Refused)).await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_are_dropped_and_have_a_few_pages_made_for_them() {
    let (path, pages) = Stand::up("deaf").answers(50_000);
    let held = path.clone();
    aside(move || {
        let deaf: Vec<Blocking> = (0..30)
            .map(|_| {
                let mut stream = Blocking::connect(&held).unwrap();
                stream.write_all(&line(Request::Show(Topic::Routes))).unwrap();
                stream
            })
            .collect();
        std::thread::sleep(SHORT.page + Duration::from_secs(2));
        // What the kernel holds for each of them, and one page that waits.
        let gone = deaf.into_iter().map(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).map(|_| rest.len())
        });
        let gone: Vec<_> = gone.collect();
        assert!(gone.iter().all(Result::is_ok), "somebody is still served: {gone:?}");
        assert!(gone.iter().flatten().all(|bytes| *bytes < 1 << 20), "{gone:?}");
    })
    .await;
    let made = pages.load(Ordering::Relaxed);
    assert!(made <= 30 * 8, "{made} pages for clients that read none");
    let rows = aside(move || ask(&path, Topic::Routes)).await;
    assert_eq!(rows.as_array().map(Vec::len), Some(100_000), "whoever reads has all of it");
}
