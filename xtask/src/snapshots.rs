use crate::Outcome;
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_: &Args) -> Outcome {
    Ok(())
}
