//! The example `prefork`, as its clients see it.
#![expect(clippy::unwrap_used, reason = "what helps a test may fail as the test itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

use futures::future::{join_all, try_join_all};
use procession_tests::{Isolated, NotPassed, StartMethod, children_of, example, under_both, wait_until_gone};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How many processes serve, and how many clients each serves at a time.
const WORKERS: usize = 4;
const PLACES: usize = 5;

struct Server {
    program: Child,
    address: SocketAddr,
}

impl Server {
    fn start(method: StartMethod) -> Self {
        let method = if method == StartMethod::Spawn { "spawn" } else { "fork-server" };
        let mut program = Command::new(example("prefork"))
            .args(["--start-method", method])
            .args(["--workers", &WORKERS.to_string(), "--clients", &PLACES.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap().trim_end().parse().unwrap();
        Self { program, address }
    }

    /// As many clients at once as there are places, or as were left.
    async fn connect(&self, clients: usize) -> Vec<Client> {
        try_join_all((0..clients).map(|_| Client::connect(self.address))).await.unwrap()
    }

    fn workers(&self) -> BTreeSet<u32> {
        children_of(self.program.id()).into_iter().map(|child| child.pid).collect()
    }

    fn interrupt(self) -> Output {
        signal(self.program.id(), Signal::INT);
        self.program.wait_with_output().unwrap()
    }
}

struct Client {
    stream: BufReader<TcpStream>,
    /// Who serves it.
    worker: u32,
}

impl Client {
    async fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let worker = line.strip_prefix("process ").unwrap().trim_end().parse().unwrap();
        Ok(Self { stream, worker })
    }

    /// Whether what is sent comes back; not if nobody is there any more.
    async fn is_served(&mut self) -> bool {
        let sent = *b"there and back";
        let mut came = [0; 14];
        self.stream.write_all(&sent).await.is_ok()
            && self.stream.read_exact(&mut came).await.is_ok_and(|_| came == sent)
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// No worker has more places, so that all of them must have come.
fn by_worker(clients: Vec<Client>) -> BTreeMap<u32, Vec<Client>> {
    let mut workers: BTreeMap<u32, Vec<Client>> = BTreeMap::new();
    for client in clients {
        workers.entry(client.worker).or_default().push(client);
    }
    assert!(workers.values().all(|clients| clients.len() == PLACES));
    workers
}

/// Many clients at once are served by all workers. One that is killed costs its own clients, and is replaced while the
/// others go on. An interrupt in the middle of it all is the end, and a quiet one.
fn a_worker_is_replaced(method: StartMethod) -> Result<(), NotPassed> {
    Isolated::new(module_path!(), "a_worker_is_replaced").under(method).run_async(async || {
        let server = Server::start(method);
        let mut workers = by_worker(server.connect(WORKERS * PLACES).await);
        assert_eq!(server.workers(), workers.keys().copied().collect());

        let (killed, mut lost) = workers.pop_first().unwrap();
        signal(killed, Signal::KILL);
        for client in &mut lost {
            assert_eq!(
                client.stream.read(&mut [0]).await.unwrap_or(0),
                0,
                "a client of the killed one lives"
            );
        }
        assert!(all_are_served(&mut workers).await);

        // There is room for them in a new one alone.
        let (replaced, mut new) = by_worker(server.connect(PLACES).await).pop_first().unwrap();
        assert!(replaced != killed && !workers.contains_key(&replaced));
        assert!(new[0].is_served().await);
        assert!(all_are_served(&mut workers).await);

        let address = server.address;
        let output = server.interrupt();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().count() == 1 && said.contains("SIGKILL"), "{said}");
        workers.keys().chain([&killed, &replaced]).copied().for_each(wait_until_gone);
        // Nobody has the socket any more.
        TcpListener::bind(address).unwrap();
    })
}

async fn all_are_served(workers: &mut BTreeMap<u32, Vec<Client>>) -> bool {
    let clients = workers.values_mut().flatten().map(Client::is_served);
    join_all(clients).await.into_iter().all(|is_served| is_served)
}

under_both!(a_worker_is_replaced);
