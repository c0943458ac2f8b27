//! What is said over one connection: requests, each with its answer, in order.
//!
//! An answer is written before the next question is put to the controller, and a long list is made a page at a time. So what waits for a
//! client that does not read is one answer or one page of [`TURN`]: for all connections together some ten MiB.

use std::{
    io::{self, ErrorKind},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{Desk, Patience, Successor};
use crate::{
    control::{
        Configuring, Envelope, PROTOCOL, Question, REQUEST_MAX, Reply, Request, Topic,
        asked::{Asked, Asker},
        audit::Trail,
        lists::{Key, List, Part, TURN},
        places::{Full, LONG_LISTS, Place, Places},
        roles::{Roles, group_number},
        search::{OnlyHere, Search},
    },
    controller::{DESTINATIONS_MAX, Parsed, hand_over::VERSION, parse},
    kernel::{fd_passing::own_user, memory},
    metrics::format::Format,
};

/// Packets that the loop is asked about in one turn.
const DESTINATIONS: usize = 32;
/// Between two looks at whether a client that waits is still there, and for a place.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a client that is turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// More keys are sorted by a thread that nobody else waits for, and their memory is given back.
const FEW: usize = 10_000;

/// What all conversations have in common.
pub(super) struct Hall {
    desk: Desk,
    patience: Patience,
    trail: Trail,
    readers: Mutex<Places>,
    /// Held while a configuration is read.
    parsing: tokio::sync::Mutex<()>,
}

/// A place among the readers of long lists, until it is dropped.
struct Reader<'a>(&'a Hall, Place);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers().give(self.1);
    }
}

/// Why the controller gives no answer.
enum Silence {
    /// The client has gone, so that nobody waits.
    Gone,
    /// The controller has ended.
    Stopping,
}

impl From<Silence> for io::Error {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Gone => ErrorKind::BrokenPipe.into(),
            Silence::Stopping => io::Error::other("the daemon is stopping"),
        }
    }
}

impl Hall {
    pub fn new(desk: Desk, patience: Patience) -> Self {
        Self {
            desk,
            patience,
            trail: Trail::default(),
            readers: Mutex::new(Places::new(LONG_LISTS)),
            parsing: tokio::sync::Mutex::new(()),
        }
    }

    /// Serves a connection to its end.
    pub async fn serve(&self, stream: UnixStream, asker: Asker) {
        if let Err(error) = self.converse(stream, &asker).await {
            tracing::debug!(user = asker.user, process = asker.process, %error, "control connection ended");
        }
    }

    /// A connection finds no place.
    pub fn turned_away(&self, asker: &Asker, full: &Full) {
        self.trail.turned_away(asker, full);
    }

    async fn converse(&self, stream: UnixStream, asker: &Asker) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        loop {
            let line = within(self.patience.request, "asks nothing", read_line(&mut read)).await?;
            if line.is_empty() {
                return Ok(());
            }
            match read_request(&line) {
                Ok(Request::HandOver { version, file }) => match self.may_succeed(asker, version) {
                    Ok(()) => {
                        let socket =
                            read.into_inner().reunite(write).map_err(io::Error::other)?.into_std()?;
                        socket.set_nonblocking(false)?;
                        // A daemon that ends has no successor.
                        let _ = self.desk.successors.send(Successor { socket, file }).await;
                        return Ok(());
                    }
                    Err(reason) => self.say(&mut write, &Reply::Error(reason)).await?,
                },
                Ok(request) => self.answer(request, asker, &mut write).await?,
                Err(why) => self.say(&mut write, &Reply::Error(why)).await?,
            }
            if !line.ends_with(b"\n") {
                return Ok(());
            }
        }
    }

    fn may_succeed(&self, asker: &Asker, version: u32) -> Result<(), String> {
        let request = Request::HandOver { version, file: None };
        self.trail.asked(asker, &request);
        may_succeed(asker.user, version)
            .inspect_err(|why| self.trail.answered(asker, &request, &Reply::Error(why.clone())))
    }

    async fn answer(&self, request: Request, asker: &Asker, write: &mut OwnedWriteHalf) -> io::Result<()> {
        self.trail.asked(asker, &request);
        if request.is_order() {
            let roles = self.desk.roles.borrow().clone();
            if let Err(why) = may_order(roles, asker).await {
                let refused = Reply::Error(why);
                self.trail.answered(asker, &request, &refused);
                return self.say(write, &refused).await;
            }
        }
        let reply = match request {
            Request::Show(Topic::Routes) => return self.list(List::Routes, asker, write).await,
            Request::Show(Topic::Refused) => return self.list(List::Refused, asker, write).await,
            Request::Routes(query) => return self.list(List::RoutesOf(query), asker, write).await,
            Request::Paths(query) => return self.list(List::Paths(query), asker, write).await,
            Request::Metrics => self.metrics().await,
            Request::Ready => match self.desk.board.fresh().await {
                Ok(shown) => Reply::Ok(shown.unready.clone().into()),
                Err(why) => Reply::Error(why),
            },
            // With detail it is of one turn.
            Request::Explain(question)
                if !question.detail && (DESTINATIONS..=DESTINATIONS_MAX).contains(&question.packets()) =>
            {
                self.explain(question, asker).await?
            }
            request => {
                let reply = self.ask(request.clone(), asker).await?;
                self.trail.answered(asker, &request, &reply);
                reply
            }
        };
        self.say(write, &reply).await
    }

    async fn metrics(&self) -> Reply {
        match self.desk.board.fresh().await.and_then(|shown| shown.metrics(Format::OpenMetrics)) {
            Ok(text) => Reply::Ok(String::from_utf8_lossy(&text).into()),
            Err(why) => Reply::Error(why),
        }
    }

    /// A few packets at a time: the loop asks the packet path about each.
    async fn explain(&self, question: Question, asker: &Asker) -> io::Result<Reply> {
        let mut rows = Vec::new();
        for part in question.parts(DESTINATIONS) {
            match self.ask(Request::Explain(part), asker).await? {
                Reply::Ok(Value::Array(part)) => rows.extend(part),
                other => return Ok(other),
            }
        }
        Ok(Reply::Ok(rows.into()))
    }

    async fn ask(&self, request: Request, asker: &Asker) -> io::Result<Reply> {
        match self.ask_in_turns(request, asker).await {
            Ok(reply) => Ok(reply),
            Err(Silence::Stopping) if !asker.is_gone() => Ok(Reply::Error("the daemon is stopping".into())),
            Err(_) => Err(Silence::Gone.into()),
        }
    }

    /// What would take the loop long is done or looked for first.
    async fn ask_in_turns(&self, request: Request, asker: &Asker) -> Result<Reply, Silence> {
        let parsed = self.parsed(&request).await;
        let only_here = match self.only_here(&request, asker).await? {
            Ok(found) => found,
            Err(full) => return Ok(Reply::Error(full.to_string())),
        };
        let asker_of_it = Some(asker.clone());
        self.put(asker, |answer| Asked::Request { request, parsed, only_here, asker: asker_of_it, answer })
            .await
    }

    /// The prefixes that only the sessions lead to which a request is about, where it is judged by them. They are found a page at a time, and
    /// the keys are in memory as those of a long list are.
    async fn only_here(
        &self,
        request: &Request,
        asker: &Asker,
    ) -> Result<Result<Option<OnlyHere>, Full>, Silence> {
        if !request.is_judged_by_routes() {
            return Ok(Ok(None));
        }
        let asking = |answer| Asked::Search { request: request.clone(), answer };
        let search = self.put(asker, asking).await?;
        let Some(Search { peers, domains }) = search else { return Ok(Ok(None)) };
        let _reader = match self.reader(asker).await {
            Ok(reader) => reader,
            Err(full) => return Ok(Err(full)),
        };
        let (mut found, mut most) = (OnlyHere::new(peers), 0);
        for part in domains.into_iter().map(Part::Routes) {
            let keys = sorted(self.put(asker, |answer| Asked::Keys { part, answer }).await?).await;
            most = keys.len().max(most);
            let mut rest = keys.as_slice();
            while !rest.is_empty() {
                let (peers, keys) = (found.peers.clone(), rest[..rest.len().min(TURN.keys)].to_vec());
                let page = self.put(asker, |answer| Asked::Seek { peers, keys, answer }).await?;
                rest = &rest[page.keys.clamp(1, rest.len())..];
                found.add(page);
            }
        }
        if most > FEW {
            tokio::task::spawn_blocking(memory::give_back);
        }
        Ok(Ok(Some(found)))
    }

    /// The configuration that a request brings; one is read at a time.
    async fn parsed(&self, request: &Request) -> Option<Box<Parsed>> {
        let (Request::Config(Configuring::Diff(file)) | Request::Config(Configuring::Apply { file, .. })) =
            request
        else {
            return None;
        };
        let file = file.clone();
        let _alone = self.parsing.lock().await;
        let parsed = tokio::task::spawn_blocking(move || parse(&file)).await;
        Some(Box::new(parsed.unwrap_or_else(|error| Err(format!("reading the configuration: {error}")))))
    }

    /// Puts something to the controller, and waits for the answer as long as the client does.
    async fn put<T>(
        &self,
        asker: &Asker,
        asking: impl FnOnce(oneshot::Sender<T>) -> Asked,
    ) -> Result<T, Silence> {
        let (answer, answered) = oneshot::channel();
        let asking = asking(answer);
        let exchange = async {
            self.desk.asked.send(asking).await.map_err(|_| Silence::Stopping)?;
            answered.await.map_err(|_| Silence::Stopping)
        };
        tokio::select! {
            answer = exchange => answer,
            () = gone(asker) => Err(Silence::Gone),
        }
    }

    /// A list of any length: as one array, a page at a time.
    async fn list(&self, list: List, asker: &Asker, write: &mut OwnedWriteHalf) -> io::Result<()> {
        let _reader = match self.reader(asker).await {
            Ok(reader) => reader,
            Err(full) => return self.say(write, &Reply::Error(full.to_string())).await,
        };
        let deadline = Instant::now() + self.patience.whole_list;
        let mut most = 0;
        let pages = self.pages(list, asker, write, &mut most);
        let result =
            timeout_at(deadline, pages).await.unwrap_or_else(|_| Err(late("takes a list too slowly")));
        if most > FEW {
            tokio::task::spawn_blocking(memory::give_back);
        }
        result
    }

    /// The pages of a list; `most` is how many keys its longest part has.
    async fn pages(
        &self,
        list: List,
        asker: &Asker,
        write: &mut OwnedWriteHalf,
        most: &mut usize,
    ) -> io::Result<()> {
        let mut text = "{\"ok\":[".to_owned();
        let parts = match self.put(asker, |answer| Asked::Parts { list, answer }).await? {
            Ok(parts) => parts,
            Err(why) => return self.say(write, &Reply::Error(why)).await,
        };
        for part in parts {
            let asked = part.clone();
            let keys = self.put(asker, |answer| Asked::Keys { part: asked, answer }).await?;
            *most = keys.len().max(*most);
            let keys = sorted(keys).await;
            let mut rest = keys.as_slice();
            while !rest.is_empty() {
                rest = self.page(&part, rest, asker, write, &mut text).await?;
            }
        }
        // What stands before a page has been written with it.
        let begin = if text == "," { "" } else { &text };
        self.write(write, &format!("{begin}]}}\n")).await
    }

    /// Writes the next page behind `before`, which then is what stands before the one after it; the answer is the keys that are left.
    async fn page<'a>(
        &self,
        part: &Part,
        rest: &'a [Key],
        asker: &Asker,
        write: &mut OwnedWriteHalf,
        before: &mut String,
    ) -> io::Result<&'a [Key]> {
        let keys = rest[..rest.len().min(TURN.keys)].to_vec();
        let part = part.clone();
        let page = self.put(asker, |answer| Asked::Rows { part, keys, answer }).await?;
        if !page.text.is_empty() {
            self.write(write, before).await?;
            self.write(write, &page.text).await?;
            *before = ",".into();
        }
        Ok(&rest[page.keys.clamp(1, rest.len())..])
    }

    /// A place among the readers of long lists.
    async fn reader(&self, asker: &Asker) -> Result<Reader<'_>, Full> {
        let deadline = Instant::now() + self.patience.list;
        loop {
            let taken = self.readers().take(asker.user);
            match taken {
                Ok(place) => return Ok(Reader(self, place)),
                Err(full) if Instant::now() >= deadline => return Err(full),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    fn readers(&self) -> MutexGuard<'_, Places> {
        // Counts stay what they are when a task panics: its place is given back by its drop.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn say(&self, write: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
        let mut text = serde_json::to_string(reply)?;
        text.push('\n');
        self.write(write, &text).await
    }

    async fn write(&self, write: &mut OwnedWriteHalf, text: &str) -> io::Result<()> {
        within(self.patience.page, "does not read", write.write_all(text.as_bytes())).await
    }
}

/// Says why there is no place. The connection stays for a moment, so that a client that has not sent its request yet can, and then reads.
pub(super) async fn turn_away(mut stream: UnixStream, why: String) {
    let farewell = async {
        let mut text = serde_json::to_vec(&Reply::Error(why))?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut buffer = [0; 4_096];
        while stream.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it is read is the client's business.
    let _ = timeout(FAREWELL, farewell).await;
}

/// Something that a client has so much time for.
async fn within<T>(time: Duration, what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.unwrap_or_else(|_| Err(late(what)))
}

fn late(what: &str) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("the client {what}"))
}

/// Until the client is gone.
async fn gone(asker: &Asker) {
    loop {
        sleep(LOOK_EVERY).await;
        if asker.is_gone() {
            return;
        }
    }
}

/// A line with its end; without one: there is no more, or it is too long.
async fn read_line(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    read.take(REQUEST_MAX).read_until(b'\n', &mut line).await?;
    Ok(line)
}

/// In order, each once.
async fn sorted(mut keys: Vec<Key>) -> Vec<Key> {
    let are_few = keys.len() <= FEW;
    let sort = move || {
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    // Sorting does not panic; if it did, this part of the list would be missing.
    if are_few { sort() } else { tokio::task::spawn_blocking(sort).await.unwrap_or_default() }
}

/// Whether this user's process may order. The group's number may have to be asked for elsewhere.
async fn may_order(roles: Roles, asker: &Asker) -> Result<(), String> {
    if roles.orders.is_none() {
        return Ok(());
    }
    let (user, groups) = (asker.user, asker.groups.clone());
    let judged = tokio::task::spawn_blocking(move || roles.may_order(user, &groups, group_number)).await;
    judged.unwrap_or_else(|_| Err("the group of `control-orders` cannot be looked up".into()))
}

/// The request of a line. The version is looked at first: another one's requests need not be understood.
///
/// # Errors
/// The sentence for the client.
pub fn read_request(line: &[u8]) -> Result<Request, String> {
    let not_understood =
        |error| format!("request not understood: {error}; is `erdp` of the daemon's version?");
    let envelope: Envelope<Value> = serde_json::from_slice(line).map_err(not_understood)?;
    // That conversation has a version of its own: an upgrade is between two versions of everything else.
    let is_hand_over = envelope.request.get("hand-over").is_some();
    if envelope.protocol != PROTOCOL && !is_hand_over {
        return Err(format!(
            "the daemon (erdp {}) speaks version {PROTOCOL} of the control protocol and was asked in version {}; use the `erdp` of \
             the same package",
            env!("CARGO_PKG_VERSION"),
            envelope.protocol
        ));
    }
    let request: Request = serde_json::from_value(envelope.request).map_err(not_understood)?;
    match request.out_of_range() {
        Some(why) => Err(why),
        None => Ok(request),
    }
}

/// Whether this user's process may take everything over: whoever has the sessions has the network.
fn may_succeed(user: u32, version: u32) -> Result<(), String> {
    if user != 0 && user != own_user() {
        return Err("only root and the daemon's own user may take over".into());
    }
    if version != VERSION {
        return Err(format!(
            "it hands over by version {VERSION} of the conversation and was asked for {version}: restart it without --take-over (its \
             peers will notice)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PROTOCOL, read_request};

    #[test]
    fn a_client_of_another_version_is_told_both_versions() {
        let ask = |protocol: u32, request: &str| {
            read_request(format!("{{\"protocol\":{protocol},\"request\":{request}}}").as_bytes())
        };
        assert!(ask(PROTOCOL, "\"metrics\"").is_ok());
        let said = ask(PROTOCOL + 1, "{\"unheard-of\":1}").unwrap_err();
        assert!(
            said.contains("version 1") && said.contains("in version 2") && said.contains("same package"),
            "{said}"
        );
        for line in [&b"\"metrics\""[..], b"{\"protocol\":1,\"request\":\"weather\"}", b"\xff"] {
            let said = read_request(line).unwrap_err();
            assert!(said.contains("not understood"), "{said}");
        }
    }
}
