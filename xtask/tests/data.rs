//! `cargo xtask data`, the program itself, against a server on loopback.

mod server;

use flate2::{Compression, write::GzEncoder};
use server::{Manner, Server};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Content that does not compress away: gzip of it is about as long.
fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    // IDX begins with two zero bytes; so does this.
    let mut content = vec![0, 0];
    content.extend(std::iter::repeat_with(&mut next).take(bytes - 2));
    content
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A manifest, a place for the data and the means to run the program on them.
struct Place {
    folder: tempfile::TempDir,
}

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    /// A manifest with the data set `tiny`: `files` are TOML lines of its entries.
    fn new(mirrors: &[&str], entries: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[tiny]\ntitle = 'Tiny'\nsource = 'this test'\nlicence = 'none'\nchecksums = 'this test'\nmirrors = {mirrors:?}\n{entries}"
        );
        fs::write(folder.path().join("manifest.toml"), text).unwrap();
        Self { folder }
    }

    /// A data set of one file, known by its decompressed hash.
    fn with_file(mirrors: &[&str], bytes: &[u8]) -> Self {
        Self::new(mirrors, &entry("a", bytes.len(), "sha256", &sha256(bytes)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("tiny").join(name)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("data")
            .args(arguments)
            .args(["--into".as_ref(), self.folder.path()])
            .args(["--manifest".as_ref(), self.folder.path().join("manifest.toml").as_path()])
            // A proxy of the machine has no way to this process's loopback server.
            .env("NO_PROXY", "*")
            .env_remove("http_proxy")
            .env_remove("HTTP_PROXY")
            .env_remove("ALL_PROXY")
            .env_remove("all_proxy")
            .output()
            .unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn fetch(&self) -> Outcome {
        self.run(&["tiny"])
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("tiny")).unwrap();
        let mut names: Vec<_> = entries.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Asserts that the file is there, whole, with nothing left over beside it.
    fn assert_complete(&self, outcome: &Outcome, bytes: &[u8]) {
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(fs::read(self.path("a")).unwrap() == bytes, "the file differs");
        assert_eq!(self.names(), ["a", "verified.toml"]);
    }
}

fn entry(name: &str, bytes: usize, field: &str, hash: &str) -> String {
    format!("[[tiny.files]]\nname = '{name}'\nbytes = {bytes}\n{field} = '{hash}'\n")
}

fn range(server: &Server, request: usize) -> Option<String> {
    server.requests()[request].range.clone()
}

#[test]
fn a_file_is_downloaded_unpacked_and_on_the_next_run_left_alone() {
    let bytes = content(1, 300_000);
    let server = Server::start(&[("a.gz", &gzip(&bytes, 6))], &[Manner::Proper]);
    let place = Place::with_file(&[&server.url], &bytes);
    place.assert_complete(&place.fetch(), &bytes);
    let written = fs::metadata(place.path("a")).unwrap().modified().unwrap();

    let again = place.fetch();
    place.assert_complete(&again, &bytes);
    assert!(again.stdout.contains("already there, verified"), "{}", again.stdout);
    assert_eq!(server.requests().len(), 1, "a verified file was asked for again");
    assert_eq!(fs::metadata(place.path("a")).unwrap().modified().unwrap(), written);
}

#[test]
fn a_damaged_file_is_noticed_and_fetched_again() {
    let bytes = content(2, 5_000);
    let server = Server::start(&[("a.gz", &gzip(&bytes, 6))], &[Manner::Proper]);
    let place = Place::with_file(&[&server.url], &bytes);
    place.assert_complete(&place.fetch(), &bytes);
    fs::write(place.path("a"), &bytes[..4_999]).unwrap();
    let again = place.fetch();
    place.assert_complete(&again, &bytes);
    assert!(again.stdout.contains("fetching it again"), "{}", again.stdout);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let bytes = content(3, 300_000);
    let packed = gzip(&bytes, 6);
    let server = Server::start(&[("a.gz", &packed)], &[Manner::BreaksAfter(100_000), Manner::Proper]);
    let place = Place::with_file(&[&server.url], &bytes);
    place.assert_complete(&place.fetch(), &bytes);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].range, None);
    assert_eq!(requests[1].range.as_deref(), Some("bytes=100000-"));
    assert!(requests[1].if_range.is_some(), "nothing guards against another version");
}

#[test]
fn a_later_run_goes_on_with_the_part_of_an_earlier_one() {
    let bytes = content(4, 300_000);
    let packed = gzip(&bytes, 6);
    let server = Server::start(&[("a.gz", &packed)], &[Manner::BreaksAfter(200_000), Manner::Unavailable]);
    let place = Place::with_file(&[&server.url], &bytes);
    let first = place.fetch();
    assert_eq!(first.code, 1);
    assert!(first.stderr.contains("HTTP 503"), "{}", first.stderr);
    assert_eq!(fs::metadata(place.path("a.part")).unwrap().len(), 200_000);
    assert!(!place.path("a").exists() && !place.path("a.unverified").exists());

    server.change("a.gz", &packed, Manner::Proper);
    let before = server.requests().len();
    place.assert_complete(&place.fetch(), &bytes);
    assert_eq!(server.requests().len(), before + 1);
    assert_eq!(range(&server, before).as_deref(), Some("bytes=200000-"));
}

#[test]
fn a_complete_part_needs_no_more_bytes() {
    let bytes = content(5, 10_000);
    let packed = gzip(&bytes, 6);
    let server = Server::start(&[("a.gz", &packed)], &[Manner::Proper]);
    let place = Place::with_file(&[&server.url], &bytes);
    fs::create_dir(place.folder.path().join("tiny")).unwrap();
    fs::write(place.path("a.part"), &packed).unwrap();
    fs::write(place.path("a.part.source"), format!("{}a.gz\n", server.url)).unwrap();
    place.assert_complete(&place.fetch(), &bytes);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(range(&server, 0), Some(format!("bytes={}-", packed.len())));
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let bytes = content(6, 300_000);
    let packed = gzip(&bytes, 6);
    let server = Server::start(&[("a.gz", &packed)], &[Manner::BreaksAfter(100_000), Manner::IgnoresRange]);
    let place = Place::with_file(&[&server.url], &bytes);
    place.assert_complete(&place.fetch(), &bytes);
    assert_eq!(range(&server, 1).as_deref(), Some("bytes=100000-"));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_file_that_changed_on_the_server_is_not_glued_to_the_old_part() {
    let bytes = content(7, 300_000);
    let (old, new) = (gzip(&bytes, 0), gzip(&bytes, 9));
    assert_ne!(old, new);
    let server = Server::start(&[("a.gz", &old)], &[Manner::BreaksAfter(150_000), Manner::Unavailable]);
    let place = Place::with_file(&[&server.url], &bytes);
    assert_eq!(place.fetch().code, 1);
    server.change("a.gz", &new, Manner::Proper);
    place.assert_complete(&place.fetch(), &bytes);
}

#[test]
fn a_part_of_unknown_content_is_thrown_away_and_the_file_fetched_whole() {
    let bytes = content(8, 300_000);
    let packed = gzip(&bytes, 6);
    let server = Server::start(&[("a.gz", &packed)], &[Manner::Proper]);
    let place = Place::with_file(&[&server.url], &bytes);
    fs::create_dir(place.folder.path().join("tiny")).unwrap();
    // Without a tag the server cannot tell that this part is not of its file; only the hash can.
    let mut part = packed[..100_000].to_vec();
    part[60_000] ^= 0x55;
    fs::write(place.path("a.part"), part).unwrap();
    fs::write(place.path("a.part.source"), format!("{}a.gz\n", server.url)).unwrap();
    let outcome = place.fetch();
    place.assert_complete(&outcome, &bytes);
    assert!(outcome.stderr.contains("once more from the start"), "{}", outcome.stderr);
    assert_eq!(range(&server, server.requests().len() - 1), None);
}

#[test]
fn a_wrong_file_is_refused_and_nothing_of_it_stays() {
    let bytes = content(9, 50_000);
    let mut other = bytes.clone();
    other[40_000] ^= 1;
    let server = Server::start(&[("a.gz", &gzip(&other, 6))], &[Manner::Proper]);
    let place = Place::with_file(&[&server.url], &bytes);
    let outcome = place.fetch();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains(&sha256(&other)) && outcome.stderr.contains(&sha256(&bytes)), "{}", outcome.stderr);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_truncated_gzip_file_is_refused_and_the_next_mirror_used() {
    let bytes = content(10, 50_000);
    let packed = gzip(&bytes, 6);
    let bad = Server::start(&[("a.gz", &packed[..packed.len() - 20])], &[Manner::Proper]);
    let good = Server::start(&[("a.gz", &packed)], &[Manner::Proper]);
    let place = Place::with_file(&[&bad.url, &good.url], &bytes);
    let outcome = place.fetch();
    place.assert_complete(&outcome, &bytes);
    assert!(outcome.stderr.contains("gzip data end early"), "{}", outcome.stderr);
    assert_eq!(range(&good, 0), None, "the bad part was continued");
}

#[test]
fn after_404_the_second_mirror_is_used() {
    let bytes = content(11, 50_000);
    let empty = Server::start(&[], &[Manner::Proper]);
    let good = Server::start(&[("a.gz", &gzip(&bytes, 6))], &[Manner::Proper]);
    let place = Place::with_file(&[&empty.url, &good.url], &bytes);
    let outcome = place.fetch();
    place.assert_complete(&outcome, &bytes);
    assert!(outcome.stderr.contains("404"), "{}", outcome.stderr);
}

#[test]
fn when_every_mirror_fails_each_reason_is_given() {
    let bytes = content(12, 1_000);
    let empty = Server::start(&[], &[Manner::Proper]);
    let busy = Server::start(&[("a.gz", &[])], &[Manner::Unavailable]);
    // Bound and dropped: nothing listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}/");
    let place = Place::with_file(&[&empty.url, &busy.url, &closed], &bytes);
    let outcome = place.fetch();
    assert_eq!(outcome.code, 1);
    let last = outcome.stderr.split("error: a: no mirror gave a good copy:").nth(1).unwrap();
    for expected in [&empty.url, &busy.url, &closed, "HTTP 404", "HTTP 503"] {
        assert!(last.contains(expected), "{expected}: {last}");
    }
    assert_eq!(busy.requests().len(), 3, "a busy server is tried three times");
}

#[test]
fn a_base_url_may_serve_the_file_uncompressed() {
    let bytes = content(13, 50_000);
    let server = Server::start(&[("a", &bytes)], &[Manner::Proper]);
    let place = Place::with_file(&["http://127.0.0.1:9/"], &bytes);
    place.assert_complete(&place.run(&["tiny", "--from", &server.url]), &bytes);
}

#[test]
fn mirrors_of_one_published_file_continue_each_others_part() {
    let bytes = content(14, 300_000);
    let packed = gzip(&bytes, 6);
    let first = Server::start(&[("a.gz", &packed)], &[Manner::BreaksAfter(120_000), Manner::Unavailable]);
    let second = Server::start(&[("a.gz", &packed)], &[Manner::Proper]);
    let entry = entry("a", bytes.len(), "download_sha256", &sha256(&packed));
    let place = Place::new(&[&first.url, &second.url], &entry);
    place.assert_complete(&place.fetch(), &bytes);
    assert_eq!(range(&second, 0).as_deref(), Some("bytes=120000-"));

    // Only the record can say that the unpacked file is right, and it does.
    let requests = second.requests().len();
    let again = place.fetch();
    assert!(again.stdout.contains("already there, verified"), "{}", again.stdout);
    assert_eq!(second.requests().len(), requests);
}

fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn from(path: &Path) -> [&str; 3] {
    ["tiny", "--from", path.to_str().unwrap()]
}

#[test]
fn a_local_folder_serves_compressed_recompressed_and_plain_files() {
    let bytes = content(15, 50_000);
    for (name, copy) in [("a.gz", gzip(&bytes, 9)), ("a.gz", gzip(&bytes, 1)), ("a", bytes.clone())] {
        let place = Place::with_file(&["http://127.0.0.1:9/"], &bytes);
        let folder = folder_with(&[(name, &copy)]);
        place.assert_complete(&place.run(&from(folder.path())), &bytes);
    }
}

#[test]
fn a_bad_local_copy_is_passed_over_for_a_good_one_and_named_if_there_is_none() {
    let bytes = content(16, 50_000);
    let place = Place::with_file(&["http://127.0.0.1:9/"], &bytes);
    let folder = folder_with(&[("a", &bytes[..100])]);
    let outcome = place.run(&from(folder.path()));
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("100 of 50000 bytes"), "{}", outcome.stderr);
    fs::write(folder.path().join("a.gz"), gzip(&bytes, 6)).unwrap();
    place.assert_complete(&place.run(&from(folder.path())), &bytes);
}

/// A `.tar.gz` with a member for each pair.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn an_archive_is_resumed_verified_and_unpacked_and_damage_is_noticed() {
    let (a, b) = (content(17, 120_000), content(18, 120_000));
    let packed = archive(&[("set/a.bin", &a), ("set/readme.html", b"<p>"), ("set/b.bin", &b)]);
    let server = Server::start(&[("set.tar.gz", &packed)], &[Manner::BreaksAfter(150_000), Manner::Proper]);
    let mut text = format!("[tiny.archive]\nname = 'set.tar.gz'\nbytes = {}\nsha256 = '{}'\n", packed.len(), sha256(&packed));
    for name in ["a.bin", "b.bin"] {
        text += &format!("[[tiny.files]]\nname = '{name}'\nmember = 'set/{name}'\nbytes = 120000\n");
    }
    let place = Place::new(&[&server.url], &text);
    let outcome = place.fetch();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(range(&server, 1).as_deref(), Some("bytes=150000-"));
    assert_eq!(place.names(), ["a.bin", "b.bin", "verified.toml"]);
    assert!(fs::read(place.path("a.bin")).unwrap() == a && fs::read(place.path("b.bin")).unwrap() == b);

    assert_eq!(place.fetch().code, 0);
    assert_eq!(server.requests().len(), 2, "verified files were fetched again");

    let mut damaged = b.clone();
    damaged[1] ^= 1;
    fs::write(place.path("b.bin"), damaged).unwrap();
    let folder = folder_with(&[("set.tar.gz", &packed)]);
    assert_eq!(place.run(&from(folder.path())).code, 0);
    assert!(fs::read(place.path("b.bin")).unwrap() == b, "the damaged file was kept");

    fs::write(folder.path().join("set.tar.gz"), &packed[..packed.len() - 1]).unwrap();
    fs::remove_file(place.path("a.bin")).unwrap();
    let refused = place.run(&from(folder.path()));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("its SHA-256 is"), "{}", refused.stderr);
    assert!(!place.path("a.bin").exists());
}

#[test]
fn a_wrong_name_and_a_wrong_place_are_told_apart() {
    let place = Place::with_file(&["http://127.0.0.1:9/"], b"0123");
    let unknown = place.run(&["huge"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("no data set named 'huge'") && unknown.stderr.contains("tiny"), "{}", unknown.stderr);
    let nowhere = place.run(&["tiny", "--from", "no/such/folder"]);
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.stderr.contains("no/such/folder"), "{}", nowhere.stderr);
    assert_eq!(place.run(&[]).code, 2);
}
