//! A small HTTP/1.1 server on loopback that misbehaves as told.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How the server answers one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// As it should, ranges included.
    Proper,
    /// Whole, whatever range was asked for.
    IgnoresRange,
    /// Closes the connection after this many bytes of the body it announced.
    BreaksAfter(usize),
    /// 503.
    Unavailable,
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
}

/// Files and manners of a running server; it ends with the test process.
pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    files: Vec<(String, Vec<u8>)>,
    /// Used up one a request; the last one stays.
    manners: Vec<Manner>,
    requests: Vec<Request>,
}

impl Server {
    /// Serves `files` at `/NAME`. `manners` are for the first, second, … request that finds its file.
    pub(crate) fn start(files: &[(&str, &[u8])], manners: &[Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| (format!("/{name}"), bytes.to_vec())).collect();
        let mut manners = manners.to_vec();
        manners.reverse();
        let state = Arc::new(Mutex::new(State { files, manners, requests: Vec::new() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is part of what is tested.
                let _ = answer(stream, &shared);
            }
        });
        Self { url, state }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Puts another version of a file in place and changes how the next requests are answered.
    pub(crate) fn change(&self, name: &str, bytes: &[u8], manner: Manner) {
        let mut state = self.state.lock().unwrap();
        state.manners = vec![manner];
        let path = format!("/{name}");
        state.files.retain(|(other, _)| *other != path);
        state.files.push((path, bytes.to_vec()));
    }
}

/// An entity tag that changes with the content.
fn tag(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(7_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("\"{sum:x}\"")
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path: path.clone(), range: None, if_range: None };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.trim().to_owned()),
            "if-range" => request.if_range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let (file, manner) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let file = state.files.iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.clone());
        let manner = match state.manners.len() {
            1 => state.manners[0],
            _ if file.is_none() => Manner::Proper,
            _ => state.manners.pop().unwrap(),
        };
        (file, manner)
    };
    let Some(file) = file else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    if matches!(manner, Manner::Unavailable) {
        return stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let same_version = request.if_range.as_ref().is_none_or(|wanted| *wanted == tag(&file));
    let start = request
        .range
        .as_ref()
        .filter(|_| same_version && !matches!(manner, Manner::IgnoresRange))
        .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
    let size = file.len();
    let status = match start {
        Some(start) if start >= size => {
            format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{size}")
        }
        Some(start) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}", size - 1),
        None => "200 OK".to_owned(),
    };
    let body = file.get(start.unwrap_or(0)..).unwrap_or_default();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: {}\r\nConnection: close\r\n\r\n", body.len(), tag(&file));
    stream.write_all(head.as_bytes())?;
    match manner {
        Manner::BreaksAfter(bytes) => stream.write_all(&body[..bytes.min(body.len())]),
        _ => stream.write_all(body),
    }
}
