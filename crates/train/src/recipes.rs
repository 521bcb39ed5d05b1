//! Run configurations embedded in the program.

/// A named run configuration.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// Its TOML.
    pub text: &'static str,
}

macro_rules! recipes {
    ($($name:literal)*) => {
        /// Every recipe.
        pub const RECIPES: &[Recipe] =
            &[$(Recipe { name: $name, text: include_str!(concat!("../recipes/", $name, ".toml")) }),*];
    };
}

recipes! {
    "moons"
    "checkerboard"
    "eight-gaussians"
    "glyphs"
    "mnist"
    "cifar10"
    "folder"
}

impl Recipe {
    /// The first line of the file's comment: what it is, in a line.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}
