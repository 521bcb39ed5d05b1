//! `fokker completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::print;

#[derive(Args)]
#[command(after_help = "Example:\n  fokker completions bash > ~/.local/share/bash-completion/completions/fokker")]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Arguments::command(), "fokker", &mut script);
        print::answer(String::from_utf8_lossy(&script).trim_end())
    }
}
