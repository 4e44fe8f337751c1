//! What tests start as the podlet's helper, run in pods where a shell is not enough, and kill in place of a podlet.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;

use clusterwright_podlet::helper;
use clusterwright_podlet::image;
use clusterwright_podlet::isolation::{Config, Error, Isolation, Process, Root, Streams};

fn main() -> ExitCode {
    if let Some(code) = helper::main_if_called() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["greet", address] => greet(address),
        ["ask", address] => ask(address),
        ["echo", address, word] => echo(address, word),
        ["podlet", volatile, user, command @ ..] => podlet(Path::new(volatile), *user == "user", command),
        _ => Err(io::Error::other(
            "usage: greet ADDRESS | ask ADDRESS | echo ADDRESS WORD | podlet FOLDER user|root COMMAND…",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever connects the address that the connection comes from.
fn greet(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening");
    loop {
        let (mut stream, peer) = listener.accept()?;
        // Whoever asked may have gone.
        let _ = write!(stream, "{}", peer.ip());
    }
}

/// Says a word to whoever connects, then what it is told, then, when that has ended, `end`.
fn echo(address: &str, word: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening");
    loop {
        let (mut stream, _) = listener.accept()?;
        let word = word.to_owned();
        std::thread::spawn(move || -> io::Result<()> {
            writeln!(stream, "{word}")?;
            io::copy(&mut stream.try_clone()?, &mut stream)?;
            writeln!(stream, "end")
        });
    }
}

/// Prints what a greeter says.
fn ask(address: &str) -> io::Result<()> {
    let mut said = String::new();
    TcpStream::connect(address)?.read_to_string(&mut said)?;
    println!("{said}");
    Ok(())
}

/// A podlet with one pod that runs the command; says `running`, and waits to be killed.
#[tokio::main(flavor = "current_thread")]
async fn podlet(volatile: &Path, user: bool, command: &[&str]) -> io::Result<()> {
    let at = volatile.join("root");
    std::fs::create_dir_all(&at)?;
    let mut config = Config::new(volatile);
    config.user_namespace = user;
    let run = async {
        let isolation = Isolation::start(&config).await?;
        let pod = isolation.namespaces("pod", [10, 244, 0, 2].into()).await?;
        let root = Root {
            at,
            size: 1 << 20,
            read_only: false,
            entries: image::libraries()
                .into_iter()
                .chain(image::shown("/usr".as_ref()))
                .chain(image::shown("/bin".as_ref()))
                .collect(),
        };
        let process = Process {
            argv: command.iter().map(|&word| word.to_owned()).collect(),
            ..Process::default()
        };
        let mut running = isolation
            .container(&pod, root, process, Streams::null().map_err(Error::Talk)?)
            .await?;
        println!("running");
        running.ended().await
    };
    let ending = run.await.map_err(io::Error::other)?;
    Err(io::Error::other(format!("the pod ended: {ending:?}")))
}
