//! `fokker recipes`.

use clap::{Args, Subcommand};
use fokker_train::RECIPES;

use crate::failure::Failure;
use crate::print;

#[derive(Args)]
#[command(
    after_help = "Example: a recipe of your own\n  fokker recipes show mnist > mine.toml\n  fokker train mine.toml --out runs/mine"
)]
pub(crate) struct Recipes {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a recipe's TOML, to be changed and given to `fokker train`.
    Show {
        /// Its name (see `fokker list recipes`).
        name: String,
    },
}

impl Recipes {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Command::Show { name } = self.command;
        let Some(recipe) = RECIPES.iter().find(|r| r.name == name) else {
            let names: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
            return Err(Failure::usage(format!("recipes show {name}: expected one of {}", names.join(", "))));
        };
        print::answer(recipe.text.trim_end())
    }
}
