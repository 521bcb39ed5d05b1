//! Running the binary in a temporary folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A temporary folder that commands run in.
pub(crate) struct Place {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fokker"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn succeed(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.out
    }

    /// Starts a command whose output nobody reads.
    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Every file with its content, and every folder, by relative path.
    pub(crate) fn content(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let relative = path.strip_prefix(root).unwrap().to_owned();
                if path.is_dir() {
                    found.insert(relative, None);
                    walk(root, &path, found);
                } else {
                    found.insert(relative, Some(std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.folder.path(), self.folder.path(), &mut found);
        found
    }

    /// The names of the files under a folder, sorted.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let content = self.content();
        let files = content.iter().filter(|(path, bytes)| bytes.is_some() && path.starts_with(folder));
        files.map(|(path, _)| path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    /// Runs a command that must be refused with `code` and one message that has every one of `parts`, and must leave the folder
    /// as it was.
    #[track_caller]
    pub(crate) fn refuse(&self, args: &[&str], code: i32, parts: &[&str]) {
        let before = self.content();
        let done = self.run(args);
        done.is_one_error(code, parts);
        let after = self.content();
        assert!(before == after, "{args:?} changed files: {:?} became {:?}", before.keys(), after.keys());
    }
}

impl Done {
    /// Asserts that the command failed with `code` and exactly one message, which has every one of `parts`.
    #[track_caller]
    pub(crate) fn is_one_error(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        assert_eq!(self.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in {self:?}");
        }
    }
}

/// Waits until `ready`; panics after half a minute.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `fokker train moons` with a small network; `more` are further arguments.
pub(crate) fn train_moons<'a>(steps: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let settings = [
        "train.batch=128",
        "train.checkpoint_every=5",
        "train.log_every=2",
        "train.schedule.warmup=5",
        "model.network.hidden=64",
        "model.network.blocks=2",
        "sample.every=20",
        "sample.count=300",
        "sample.batch=200",
        "sample.sampler.grid.steps=3",
    ];
    train("moons", steps, &settings, more)
}

/// `fokker train glyphs` with a small network.
pub(crate) fn train_glyphs<'a>(steps: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let settings = [
        "train.batch=8",
        "train.checkpoint_every=2",
        "train.log_every=1",
        "train.schedule.warmup=2",
        "model.network.channels=[8, 8]",
        "model.network.head_channels=8",
        // With one channel to a group, the norm would take the class and the noise level away again.
        "model.network.groups=2",
        "sample.every=4",
        "sample.count=4",
        "sample.batch=4",
        "sample.sampler.grid.steps=2",
    ];
    train("glyphs", steps, &settings, more)
}

fn train<'a>(recipe: &'a str, steps: &'a str, settings: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", recipe, "--out", "run", "--set", steps];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    args.extend(more);
    args
}

/// A finished run on moons and one on glyphs, `moons/run` and `glyphs/run`: for tests that only read them.
pub(crate) struct Trained {
    pub(crate) moons: Place,
    pub(crate) glyphs: Place,
}

pub(crate) static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let (moons, glyphs) = (Place::new(), Place::new());
    // Enough for samples to be of the size of the data.
    moons.succeed(&train_moons("train.steps=200", &[]));
    glyphs.succeed(&train_glyphs("train.steps=4", &[]));
    Trained { moons, glyphs }
});
