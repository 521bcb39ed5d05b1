use crate::Outcome;
#[derive(clap::Args)]
pub(crate) struct Args {}
#[derive(clap::Args)]
pub(crate) struct BenchArgs {}
pub(crate) fn run(_: &Args) -> Outcome {
    Ok(())
}
pub(crate) fn bench(_: &BenchArgs) -> Outcome {
    Ok(())
}
